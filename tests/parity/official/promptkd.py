"""PromptKD, whose teacher is a run of PromptSRC on a backbone of its own."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from tests.parity import tiny_clip
from tests.parity.official import promptsrc
from tests.parity.official.names import Official, Options
from tests.parity.oracle import Oracle
from vlmadapt.core.adapter import save_adapter
from vlmadapt.core.build import build_method
from vlmadapt.core.method import Task
from vlmadapt.plugin import IMAGE, ForwardPass, Method
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings
from vlmadapt_multimodal.promptkd import PromptKD

TRAINER = "promptkd"
TEMPLATE = "a photo of a {}."
FOLDERS: list[tempfile.TemporaryDirectory[str]] = []
"""Kept until the tests end."""


@cache
def teacher(name: str) -> str:
    """A folder with the run of the teacher of an oracle, made of the prompts that are recorded there."""
    oracle, kept = Oracle(name), tempfile.TemporaryDirectory()
    FOLDERS.append(kept)
    folder = Path(kept.name)
    backbone = tiny_clip.load(folder / "backbone", oracle.settings["teacher_backbone"])
    classes = tuple(oracle.settings["base_classes"])
    method = build_method("promptsrc", backbone, Task(classes, (TEMPLATE,)))
    prompts, names = oracle.under("teacher/"), promptsrc.official()
    assert len(prompts) == len(list(method.parameters()))
    with torch.no_grad():
        for official, value in prompts.items():
            method.get_parameter(names.name(official)).copy_(value)
    run = Run.new(folder / "run")
    settings = FitSettings(method="promptsrc", data="openmoji", backbone=str(folder / "backbone"))
    manifest: dict[str, Any] = {"sha256": "", "classes": list(classes), "train": [], "val": [], "test": []}
    run.start(settings.resolved(), manifest)
    save_adapter(run.adapter, "promptsrc", method, backbone, (TEMPLATE,))
    return str(run.folder)


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        return {
            "teacher": teacher({"base2novel": "promptkd", "cross": "promptkd_cross"}[hyper["MODAL"]]),
            "image_tokens": hyper["N_CTX_VISION"],
            "image_depth": hyper["PROMPT_DEPTH_VISION"],
            "temperature": hyper["TEMPERATURE"],
            "weight": hyper["KD_WEIGHT"],
        }

    def image_features(method: Method, fwd: ForwardPass) -> Tensor:
        return torch.nn.functional.normalize(cast(PromptKD, method).project(fwd.features(IMAGE)), dim=-1)

    return Official(
        method="promptkd",
        options=options,
        names=(
            (r"image_encoder\.VPT", "tokens.0"),
            (r"image_encoder\.transformer\.resblocks\.(\d+)\.VPT_shallow", r"tokens.\1"),
            (r"VPT_image_trans\.conv1\.(\d)\.(\w+)", r"project.\1.\2"),
        ),
        outputs={
            "image_features": image_features,
            "teacher_text_features": lambda method, fwd: cast(PromptKD, method).class_vectors(fwd),
            "teacher_logits": lambda method, fwd: cast(PromptKD, method).targets(fwd),
        },
    )
