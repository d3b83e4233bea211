"""Merge a run's adapter into its backbone: an open_clip checkpoint that gives the same scores without vlmadapt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import Hook, Prompt
from vlmadapt.core.loading.check import check_towers
from vlmadapt.core.loading.load import is_registered
from vlmadapt.core.loading.tag_settings import Checkpoint
from vlmadapt.core.merge import merged_model
from vlmadapt.core.plan import Optimizations, Plan, derive
from vlmadapt.core.templates import Template
from vlmadapt.errors import AdapterError
from vlmadapt.evaluation.predict import load_classifier, trained_and_known_classes
from vlmadapt.files import write_tensors
from vlmadapt.roles import SEEN, UNSEEN
from vlmadapt.runs.run import Run

TOLERANCE = 2e-4
"""Largest difference between a run's scores and those of the merged model, relative to the largest score."""
OTHERS = ("axolotl", "tea pot", "american pit bull terrier", "windmill")
"""Class names that few runs are trained on."""


@dataclass(frozen=True)
class Merged:
    """A merged model.

    Attributes:
        file: the checkpoint.
        backbone: name of the backbone it was made from.
        templates: texts that describe a class, with `{}` for its name.
        ensemble: whether the mean of their unit features is taken; otherwise there is one.
    """

    file: Path
    backbone: str
    templates: tuple[str, ...]
    ensemble: bool

    @property
    def how_to_load(self) -> str:
        """How open_clip and vlmadapt load the checkpoint, in a sentence."""
        architecture, _, weights = self.backbone.partition(":")
        if Path(self.backbone).is_dir() or is_registered(self.backbone) or not weights or architecture == "hf-hub":
            return "Load it as a copy of the backbone's folder in which it is the open_clip_model.safetensors."
        tag = Checkpoint.parse(architecture, weights).tag
        name = f"{architecture}:{tag}" if tag else architecture
        return f"Load it with --backbone {name}:{self.file}, or in open_clip over the model of '{name}'."


def merge(folder: Path | str, out: Path | str, *, backbone: str | None = None) -> Merged:
    """Write an open_clip checkpoint with a run's adapter in its weights.

    Its zero-shot scores are compared with the run's, for the classes trained on and for others, before anything is
    written.

    Args:
        folder: run folder.
        out: checkpoint to write, `NAME.safetensors`.
        backbone: current name or path of the backbone.

    Raises:
        VlmadaptError: the run cannot be read, or its method does more than weights can represent.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise AdapterError(f"'{out}' is no name for a checkpoint; write --out NAME.safetensors.")
    if out.exists():
        raise AdapterError(f"'{out}' exists already; choose another name.")
    run = Run.open(folder)
    trained, _ = trained_and_known_classes(run)
    classifier = load_classifier(run.adapter, trained, backbone or run.settings().backbone)
    try:
        plan = derive(classifier.method.hooks(), classifier.backbone, classifier.templates)
        model = merged_model(classifier.backbone, plan)
        frozen = Backbone(classifier.backbone.name, model, classifier.backbone.text._tokenizer)
        check_towers(frozen)
        templates, ensemble = _equal(classifier, frozen, plan, trained)
    except AdapterError as error:
        raise AdapterError(f"'{folder}' cannot be merged: {error}") from error
    merged = Merged(out, frozen.name, tuple(template.text for template in templates), ensemble)
    header = {"method": run.settings().method, **vars(merged), "file": out.name}
    write_tensors(out, _plain(model.state_dict()), {"vlmadapt": json.dumps(header)})
    return merged


def _equal(
    classifier: Classifier, merged: Backbone, plan: Plan, trained: Sequence[str]
) -> tuple[tuple[Template, ...], bool]:
    """The templates with which the merged model scores as the run does, and whether they are averaged.

    Raises:
        AdapterError: with none of them it does.
    """
    method = classifier.method
    groups = [(tuple(trained), SEEN), *([(OTHERS, UNSEEN)] if method.answers_unseen else [])]
    size = classifier.backbone.image.size
    images = torch.randn(8, 3, *size, generator=torch.Generator().manual_seed(0)).to(classifier.device)
    alone, averaged = [], []
    for names, role in groups:
        expected = classifier.scores(images, names, role)
        fwd = _zero_shot(merged, plan, images, names)
        with torch.no_grad():
            alone.append(_distance(expected, fwd.logits()))
            averaged.append(_distance(expected, fwd.zero_shot.logits))
    if max(alone) <= TOLERANCE:
        return plan.prompts, False
    if max(averaged) <= TOLERANCE and (plan.teacher.normalize_each or len(plan.teacher.templates) == 1):
        return plan.teacher.templates, len(plan.teacher.templates) > 1
    raise AdapterError(
        "its scores are not those of CLIP with other weights (it adds a classifier, a cache, another router or "
        f"unusual texts): they would differ by {100 * min(max(alone), max(averaged)):.2g} % of the largest."
    )


def _zero_shot(backbone: Backbone, plan: Plan, images: Tensor, names: Sequence[str]) -> ForwardPass:
    """The model by itself: with the method's first template, and with its zero-shot templates."""
    hooks = Prompt(plan.prompts[:1]), plan.teacher
    return ForwardPass(Engine(backbone, Optimizations(), 0), _Hooks(hooks), names, plan.prompts[:1], images)


@dataclass(frozen=True)
class _Hooks:
    declared: tuple[Hook, ...]

    def hooks(self) -> tuple[Hook, ...]:
        return self.declared


def _distance(expected: Tensor, found: Tensor) -> float:
    return float((expected - found).abs().max() / expected.abs().max())


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
