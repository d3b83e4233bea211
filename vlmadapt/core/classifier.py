"""Classifier: a method on a backbone, applied to lists of classes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass, similarity
from vlmadapt.core.method import Method
from vlmadapt.core.plan import Optimizations, derive
from vlmadapt.core.templates import Template
from vlmadapt.errors import DataError
from vlmadapt.roles import UNSEEN, Role
from vlmadapt.text import first_few


class Classifier:
    """A method on a backbone with templates and a plan; shared by training and evaluation.

    Attributes:
        backbone: frozen dual encoder.
        method: module with all trained tensors.
        templates: texts of the data set that describe a class.

    Raises:
        BackboneError: the method declares what this backbone does not have.
    """

    def __init__(
        self,
        backbone: Backbone,
        method: Method,
        templates: Sequence[str],
        plan: str = "planned",
        class_chunk: int = 0,
        precision: torch.dtype | None = None,
    ):
        self.backbone = backbone
        self.method = method
        self.templates = tuple(Template.parse(text) for text in templates)
        self._settings = plan, class_chunk, precision
        self._engine = Engine(backbone, Optimizations.named(plan), class_chunk, precision)
        derive(method.hooks(), backbone, self.templates)

    def with_templates(self, templates: Sequence[str]) -> Classifier:
        """The same method with other templates."""
        return Classifier(self.backbone, self.method, templates, *self._settings)

    @property
    def device(self) -> torch.device:
        """Device of the computation."""
        return self.backbone.device

    @property
    def encodes_images_once(self) -> bool:
        """Whether an image gives the same tower output whatever the method has learned, and that may be kept."""
        tower = self.backbone.image
        plan = derive(self.method.hooks(), self.backbone, self.templates).image
        return self._engine.optimizations.frozen_layers and plan.leaves_untouched(tower)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """What the untouched image tower gives, first axis B, for `FrozenImages.of_output`."""
        with self._engine.autocast():
            return FrozenImages(images).output(self.backbone.image, self._engine.optimizations)

    def forward(self, images: Tensor | FrozenImages, names: Sequence[str], labels: Tensor | None = None) -> ForwardPass:
        """A forward pass of images (B, 3, H, W), or of what the tower gave for them, against classes."""
        return ForwardPass(self._engine, self.method, names, self.templates, images, labels)

    def kept(self) -> tuple[Any, ...]:
        """Cached frozen activations; a captured step holds them so that their memory is not freed."""
        return self._engine.frozen.held()

    def unchanged(self) -> AbstractContextManager[None]:
        """A context in which the method does not change, so that kept texts are used without looking at it again."""
        return self._engine.kept_text.trusted()

    def drop_kept(self) -> None:
        """Drop frozen activations and texts that are kept; they are computed again when they are needed."""
        self._engine.clear()

    @torch.inference_mode()
    def scores(self, images: Tensor | FrozenImages, names: Sequence[str], role: Role) -> Tensor:
        """The inference router's scores (B, classes) for classes of a role, in inference mode, without gradients.

        A method that knows only the classes it was trained on scores those in its own order; the columns are then put
        in the order of `names`.

        Raises:
            DataError: such a method is given other classes.
        """
        return self.route(images, names, role)

    @torch.inference_mode()
    def scores_and_zero_shot(
        self, images: Tensor | FrozenImages, names: Sequence[str], role: Role
    ) -> tuple[Tensor, Tensor]:
        """`scores`, and the logits (B, classes) of the frozen backbone with the data set's templates.

        Both share the blocks of the image tower below the first that the method touches.
        """
        frozen = images if isinstance(images, FrozenImages) else FrozenImages(images)
        scores = self.route(frozen, names, role)
        fwd = self.forward(frozen, names)
        text = fwd.other(hooks=()).zero_shot.text  # without hooks, the method's own teacher is none
        return scores, self.backbone.logits(similarity(fwd.zero_shot.image, text)).float()

    def route(self, images: Tensor | FrozenImages, names: Sequence[str], role: Role) -> Tensor:
        """`scores` outside inference mode, so with gradients where the caller wants them.

        Raises:
            DataError: see `scores`.
        """
        self.method.eval()
        if self.method.answers_unseen:
            return self.method.route(self.forward(images, names), role).float()
        columns = self._trained_columns(names, role)
        found = self.method.route(self.forward(images, self.method.trained_classes), role).float()
        return found if columns == list(range(found.shape[1])) else found[:, columns]

    def _trained_columns(self, names: Sequence[str], role: Role) -> list[int]:
        """Column of each class among the classes trained on."""
        trained = {name: i for i, name in enumerate(self.method.trained_classes)}
        others = [name for name in names if name not in trained]
        if others or role is UNSEEN:
            raise DataError(
                f"{type(self.method).__name__} with these options knows only the {len(trained)} classes it was trained "
                f"on; it cannot score others ({first_few(others or list(names))}). Use a method that reads class "
                "names, or the protocol few-shot."
            )
        return [trained[name] for name in names]
