"""2SFS (Farina et al., CVPR 2025)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    IMAGE,
    NEXT_TO_NORM1,
    NEXT_TO_NORM2,
    TEXT,
    Backbone,
    BackboneError,
    DataError,
    ForwardPass,
    Hook,
    ImageTower,
    LossTerm,
    Method,
    Recipe,
    Role,
    Support,
    Task,
    TextTower,
    adapt,
    prompt,
    similarity,
)


@dataclass
class TwoSFSConfig:
    """Options of 2SFS.

    The share of the steps that each stage takes is the training setting `cycles`.

    Args:
        towers: which towers' norms the first stage trains.
        text_start: first block of the text tower whose norms are trained, counted from 1.
        image_start: the same for the image tower.
        template: prompt template for every data set; empty for the data set's own.
    """

    towers: Literal["both", "text", "image"] = "both"
    text_start: int = 1
    image_start: int = 1
    template: str = "a photo of a {}."


class TwoSFS(Method):
    """Two-stage few-shot adaptation: first the norms of both towers are trained, then a linear classifier.

    With f the unit image feature, w_i the unit text feature of class i and s CLIP's scale, the first stage trains the
    weights and biases of both norms of every block with the cross entropy of

        z_i = s f . w_i

    Then the w_i of the tuned text tower become the rows of a classifier C, and the second stage trains C alone, with
    the norms as they are, by the cross entropy of z_i = s f . c_i / |c_i|. Inference is selective: a class that was
    trained on is scored with its row of C, any other with its text feature. Each stage has an optimiser and a cosine of
    its own; the recipe gives 60 % of the steps to the first. Training that ends in the first stage leaves no rows, and
    every class is scored with its text feature.

    Official code (FarinaMatteo/rethinking_fewshot_vlms) announces that it trains every norm, but the last norms of the
    towers and the one before the first image block keep their values, because a second visit of the same modules turns
    their gradients off; here they are not trained either. Its weight decay pulls weights of norms to 0, not to 1, and
    acts on biases too. It compares class names as they are given, before underscores become spaces; so does this. It
    counts steps where this trains whole epochs. Its other ways to adapt in the first stage (LoRA, biases) are not part
    of this method.
    """

    Config = TwoSFSConfig
    api_version = 2
    recipe = Recipe(
        optimizer="adamw",
        lr=2e-4,
        steps_per_shot=300,
        cycles=(0.6, 0.4),
        batch_size=32,
        weight_decay=1e-2,
        schedule="cosine-step",
        final_lr=1e-6,
        warmup_epochs=0,
    )
    paper = "Farina et al., Rethinking Few-Shot Adaptation of Vision-Language Models in Two Stages, CVPR 2025"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Copy the norms, and create a classifier (classes, joint) that is empty until the second stage."""
        c = self.config
        self.text = _norms(backbone.text, c.text_start, c.towers in ("both", "text"))
        self.image = _norms(backbone.image, c.image_start, c.towers in ("both", "image"))
        self.classifier = nn.Parameter(torch.zeros(len(task.classes), backbone.image.joint))
        self.row_names: Tensor
        self.second_stage: Tensor
        self.register_buffer("row_names", _encoded(task.classes))
        self.register_buffer("second_stage", torch.tensor(False))
        # The same for Python, which would have to wait for a device.
        self.row_classes = task.classes
        self.has_rows = False

    def hooks(self) -> Iterable[Hook]:
        """The trained norms in the place of the frozen ones, and the prompt template."""
        if self.config.template:
            yield prompt(self.config.template)
        for side, norms in ((TEXT, self.text), (IMAGE, self.image)):
            for layer, pair in norms.items():
                for norm, site in zip(pair.children(), (NEXT_TO_NORM1, NEXT_TO_NORM2), strict=True):
                    yield adapt(side, int(layer), norm, site, replace=True)

    def cycle_start(self, cycle: int, support: Support) -> None:
        """Start the first stage, or fill the classifier with the unit text features of the training classes."""
        self.has_rows = cycle > 0
        self.second_stage.fill_(self.has_rows)
        if cycle == 1:
            fwd = next(next(support.epochs(augmented=False)))
            self.classifier.copy_(fwd.other(names=self.row_classes).text())

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy; in the second stage without gradients for the norms."""
        yield LossTerm("ce", 1.0, F.cross_entropy(self.logits(fwd), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The logits; the class names say which classes were trained on."""
        return self.logits(fwd)

    def logits(self, fwd: ForwardPass) -> Tensor:
        """scale * cosine with the classifier's row or the text feature of each class, (B, classes)."""
        if not self.has_rows:
            return fwd.logits()
        with torch.set_grad_enabled(
            torch.is_grad_enabled() and not self.training
        ):  # the second stage trains rows alone
            image = fwd.image()
        return fwd.scale * similarity(image, self.class_features(fwd))

    def class_features(self, fwd: ForwardPass) -> Tensor:
        """Unit features (classes, joint): rows of the classifier, and text features of classes without one."""
        trained = F.normalize(self.classifier.float(), dim=-1)
        if fwd.names == self.row_classes:
            return trained
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(self.row_classes):  # ImageNet has classes with the same name
            rows.setdefault(name, []).append(row)
        others = [name for name in dict.fromkeys(fwd.names) if name not in rows]
        if others:
            with torch.no_grad():
                trained = torch.cat([trained, fwd.other(names=others).text().to(trained.dtype)])
        rows |= {name: [len(self.row_classes) + i] for i, name in enumerate(others)}
        return trained[[rows[name].pop(0) if len(rows[name]) > 1 else rows[name][0] for name in fwd.names]]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load, with a row for each class that the saved classifier was trained on."""
        saved = state_dict.get(f"{prefix}classifier"), state_dict.get(f"{prefix}row_names")
        for tensor, value in zip((self.classifier, self.row_names), saved, strict=True):
            if value is not None and value.shape[1:] == tensor.shape[1:]:
                tensor.data = tensor.new_zeros(value.shape)  # an optimiser keeps its reference to it
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.row_classes = tuple(_decoded(self.row_names))
        self.has_rows = bool(self.second_stage)


def _norms(tower: TextTower | ImageTower, start: int, trained: bool) -> nn.ModuleDict:
    """Trained copies of both norms of each block, keyed by block counted from 0."""
    if not 1 <= start <= max(tower.depth, 1):
        raise DataError(f"the first block whose norms are trained is {start}; it has to be from 1 to {tower.depth}.")
    layers = range(start - 1, tower.depth) if trained else ()
    try:
        copies = {str(layer): tower.norm_copies(layer, decay_to_zero=True) for layer in layers}
    except BackboneError as error:
        raise BackboneError(f"2SFS trains norms, but {error} clip-lora and mmrl++ need none.") from error
    return nn.ModuleDict({layer: nn.ModuleList(pair) for layer, pair in copies.items()})


def _encoded(names: Sequence[str]) -> Tensor:
    """Names as a tensor of bytes, so that they are part of the state."""
    return torch.tensor(list(json.dumps(list(names)).encode()), dtype=torch.uint8)


def _decoded(encoded: Tensor) -> list[str]:
    """The names in a tensor of bytes."""
    names: list[str] = json.loads(bytes(encoded.tolist()))
    return names
