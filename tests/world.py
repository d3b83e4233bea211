"""Short runs on small images with the small random CLIP, and the files that they write."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests import small
from tests.data.pictures import class_folder
from tests.parity import tiny_clip
from vlmadapt import FitResult, FitSettings, fit
from vlmadapt.runs.run import Run

CLASSES = ("axolotl", "jack-o'-lantern", "red_fox", "tabby cat")
DESCRIPTIONS = {
    "axolotl": ["an axolotl with pink gills.", "a pale animal that lives in water."],
    "jack-o'-lantern": ["a pumpkin with a face."],
    "red_fox": ["a red fox in the snow.", "an orange animal with a bushy tail.", "a fox."],
    "tabby cat": ["a tabby cat.", "a striped cat on a sofa."],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "mmrl": {"layers": [2, 3], "width": 16, "tokens": 2},
    "coop": {"tokens": 2},
    "tip-adapter-f": {"passes": 1},
    "promptsrc": {"text_depth": 2, "image_depth": 2, "text_tokens": 2, "image_tokens": 2, "words": "a photo"},
    "clip-lora": {"rank": 2},
    "2sfs": {},
    "proda": {"prompts": 8, "batch": 4, "tokens": 2},
    "clip": {},
    "mma++": {"texts": "descriptions", "layers": [2, 3], "width": 4},
    "clap": {"passes": 2, "adaptive": True},
    "lp++": {"alpha_every": 2, "published": True},
    "gda-unseen": {"passes": 2, "alpha": 10.0, "search": False},
}
SHORT = {"epochs": 3, "batch_size": 4}
TRAIN: dict[str, dict[str, Any]] = {name: {} if name == "clip" else SHORT for name in OPTIONS}


@dataclass(frozen=True)
class World:
    """A folder with a backbone in `clip` and the user's pictures in `pictures`, eight of each class."""

    root: Path

    @property
    def clip(self) -> Path:
        return self.root / "clip"

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    @property
    def descriptions(self) -> Path:
        return self.root / "descriptions.json"

    @classmethod
    def make(cls, root: Path) -> World:
        tiny_clip.write(root / "clip", small.SETTINGS)
        for name in CLASSES:
            class_folder(root / "pictures" / name, 8)
        (root / "descriptions.json").write_text(json.dumps(DESCRIPTIONS))
        return cls(root)

    def settings(self, out: Path, method: str = "mmrl", **changes: Any) -> FitSettings:
        given: dict[str, Any] = {
            "method": method,
            "options": {**OPTIONS.get(method, {}), **changes.pop("options", {})},
            "train": {**TRAIN.get(method, SHORT), **changes.pop("train", {})},
            "data": str(self.pictures),
            "backbone": str(self.clip),
            "shots": 3,
            "workers": 0,
            "out": str(out),
        }
        return FitSettings(**{**given, **changes})

    def fit(self, out: Path, method: str = "mmrl", **changes: Any) -> FitResult:
        return fit(self.settings(out, method, **changes))

    def arguments(self, out: Path, method: str = "mmrl", *more: str) -> list[str]:
        """The same run on the command line."""
        given = ["fit", "--method", method, "--data", str(self.pictures), "--backbone", str(self.clip)]
        given += ["--shots", "3", "--out", str(out)]
        for prefix, options in (("method", OPTIONS[method]), ("train", TRAIN[method])):
            for name, value in options.items():
                given += [f"--{prefix}.{name}", json.dumps(value) if isinstance(value, list) else str(value)]
        return [*given, *more]


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter" / "adapter_model.safetensors")


def metrics(run: Path) -> list[dict[str, Any]]:
    """What was logged of each epoch, without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "step_seconds"} for line in lines]


def result(run: Path) -> dict[str, Any]:
    """The final numbers, without times and memory."""
    found = Run.open(run).result()
    assert found is not None
    for name in ("seconds_per_step", "test_images_per_second", "peak_memory_bytes"):
        del found[name]
    for group in found["groups"]:
        del group["seconds"]
    return found


def outcome(run: Path) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    """All of a run that must not depend on anything but its settings."""
    return (run / "adapter" / "adapter_model.safetensors").read_bytes(), metrics(run), result(run)
