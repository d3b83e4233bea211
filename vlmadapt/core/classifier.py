"""Classifier: a method on a backbone, applied to lists of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.descriptions import ClassDescriptions
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass, similarity
from vlmadapt.core.image_bank import ImageBank
from vlmadapt.core.method import Method
from vlmadapt.core.plan import Optimizations, derive
from vlmadapt.core.templates import Template
from vlmadapt.errors import AdapterError, DataError
from vlmadapt.roles import UNSEEN, Role
from vlmadapt.text import first_few


class Classifier:
    """A method on a backbone with templates and a plan; shared by training and evaluation.

    Attributes:
        backbone: frozen dual encoder.
        method: module with all trained tensors.
        templates: texts of the data set that describe a class.
        descriptions: sentences by class name, for methods that read them.
        bank: training images of the current epoch, for steps that draw some by class; None in all other steps.

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
        descriptions: Mapping[str, Sequence[str]] | None = None,
    ):
        self.backbone = backbone
        self.method = method
        self.templates = tuple(Template.parse(text) for text in templates)
        self.descriptions = descriptions or {}
        self.bank: ImageBank | None = None
        self._described = ClassDescriptions(self.descriptions)
        self._settings = plan, class_chunk, precision
        self._stream: tuple[tuple[str, ...], Role] | None = None
        self._engine = Engine(backbone, Optimizations.named(plan), class_chunk, precision)
        derive(method.hooks(), backbone, self.templates)

    def with_templates(self, templates: Sequence[str]) -> Classifier:
        """The same method with other templates."""
        return Classifier(self.backbone, self.method, templates, *self._settings, self.descriptions)

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
        return ForwardPass(self._engine, self.method, names, self.templates, images, labels, self._described, self.bank)

    def kept(self) -> tuple[Any, ...]:
        """Cached frozen activations; a captured step holds them so that their memory is not freed."""
        return self._engine.frozen.held()

    def unchanged(self) -> AbstractContextManager[None]:
        """A context in which the method does not change, so that kept texts are used without looking at it again."""
        return self._engine.kept_text.trusted()

    def trust(self) -> None:
        """Take the method as unchanged for good, as that of a teacher is, see `unchanged`."""
        self._engine.kept_text.trust()

    def drop_kept(self) -> None:
        """Drop frozen activations and texts that are kept; they are computed again when they are needed."""
        self._engine.clear()

    def scores(self, images: Tensor | FrozenImages, names: Sequence[str], role: Role) -> Tensor:
        """The inference router's scores (B, classes) for classes of a role, without gradients.

        A method that knows only the classes it was trained on scores those in its own order; the columns are then put
        in the order of `names`. Images that a method with `streams` is given continue its stream of these classes; if
        there is none, one starts.

        Args:
            images: (B, 3, H, W), or (B, views, 3, H, W) for a method with `test_views`; or what the tower gave for
                them.
            names: class names.
            role: of these classes.

        Raises:
            DataError: a method that knows only its classes is given others.
        """
        with self._without_gradients():
            return self.route(images, names, role)

    def scores_and_zero_shot(
        self, images: Tensor | FrozenImages, names: Sequence[str], role: Role
    ) -> tuple[Tensor, Tensor]:
        """`scores`, and the logits (B, classes) of the frozen backbone with the data set's templates.

        Both share the blocks of the image tower below the first that the method touches.
        """
        with self._without_gradients():
            frozen = images if isinstance(images, FrozenImages) else FrozenImages(self._rows(images))
            scores = self.route(frozen, names, role)
            fwd = self.forward(frozen, names)
            text = fwd.other(hooks=()).zero_shot.text  # without hooks, the method's own teacher is none
            itself = fwd.zero_shot.image[:: self.method.test_views]
            return scores, self.backbone.logits(similarity(itself, text)).float()

    def scores_and_certainty(
        self, images: Tensor | FrozenImages, names: Sequence[str], role: Role
    ) -> tuple[Tensor, Tensor | None]:
        """`scores`, and the method's own certainty (B,), None if it has none."""
        with self._without_gradients():
            fwd = self._tested(images, names, role)
            certainty = self.method.certainty(fwd, role)
            return self._routed(fwd, names, role), None if certainty is None else certainty.float()

    def route(self, images: Tensor | FrozenImages, names: Sequence[str], role: Role) -> Tensor:
        """`scores` outside inference mode, so with gradients where the caller wants them.

        Raises:
            DataError: see `scores`.
        """
        return self._routed(self._tested(images, names, role), names, role)

    def _tested(self, images: Tensor | FrozenImages, names: Sequence[str], role: Role) -> ForwardPass:
        """The forward pass of images to test; of classes in the method's own order if it knows no others.

        Raises:
            DataError: see `scores`.
        """
        self.method.eval()
        if self.method.streams and self._stream != (tuple(names), role):
            self.start_stream(names, role)
        rows = images if isinstance(images, FrozenImages) else self._rows(images)
        if self.method.answers_unseen:
            return self.forward(rows, names)
        self._trained_columns(names, role)
        return self.forward(rows, self.method.trained_classes)

    def _routed(self, fwd: ForwardPass, names: Sequence[str], role: Role) -> Tensor:
        """Scores (B, classes) in the order of `names`."""
        found = self.method.route(fwd, role).float()
        if self.method.answers_unseen:
            return found
        columns = self._trained_columns(names, role)
        return found if columns == list(range(found.shape[1])) else found[:, columns]

    @torch.no_grad()
    def start_stream(self, names: Sequence[str], role: Role) -> None:
        """Let a method with `streams` begin with a new stream of images of these classes; other methods have none."""
        if self.method.streams:
            self.method.stream_start(names if self.method.answers_unseen else self.method.trained_classes, role)
            self.method.to(self.device)
            self._stream = tuple(names), role

    def stream_state(self) -> dict[str, Tensor]:
        """What the stream so far has left in the method: all parameters and buffers, by name."""
        return {name: t.detach() for name, t in (*self.method.named_parameters(), *self.method.named_buffers())}

    @torch.no_grad()
    def continue_stream(self, state: Mapping[str, Tensor], names: Sequence[str], role: Role) -> None:
        """Continue a stream of images of these classes from a state.

        Raises:
            AdapterError: it is the state of a stream of other classes, or of another method.
        """
        self.start_stream(names, role)
        own = self.stream_state()
        wrong = [
            n for n in own.keys() | state.keys() if n not in own or n not in state or own[n].shape != state[n].shape
        ]
        if wrong:
            raise AdapterError(
                f"this is not the state of a stream of {len(names)} classes with {type(self.method).__name__}; what "
                f"differs: {first_few(sorted(wrong))}."
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _without_gradients(self) -> AbstractContextManager[None]:
        """Inference mode, in which a method that trains on a stream could not allow gradients for itself."""
        return torch.no_grad() if self.method.streams else torch.inference_mode()

    def _rows(self, images: Tensor) -> Tensor:
        """Images, or all views of them one after another (B * views, 3, H, W).

        Raises:
            ValueError: there are not as many views as the method asks for.
        """
        views = self.method.test_views
        if views == 1:
            return images
        if images.ndim != 5 or images.shape[1] != views:
            raise ValueError(f"{views} views of each image are needed, not {tuple(images.shape)}.")
        return images.flatten(0, 1)

    @torch.inference_mode()
    def embed_images(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """Unit features (B, joint) of the adapted image tower for images (B, 3, H, W), next to classes of these names.

        Raises:
            DataError: the method describes an image by several vectors.
        """
        self.method.eval()
        return self._vectors(self.forward(images, names).image(), "an image")

    @torch.inference_mode()
    def embed_texts(self, names: Sequence[str]) -> Tensor:
        """Unit features (classes, joint) of class names in the method's prompt.

        Raises:
            DataError: the method's prompt depends on the image, or it describes a class by several vectors.
        """
        return self.class_vectors(names)

    def class_vectors(self, names: Sequence[str]) -> Tensor:
        """`embed_texts` outside inference mode: tensors that may enter another graph.

        Raises:
            DataError: see `embed_texts`.
        """
        self.method.eval()
        blank = torch.zeros(1, 3, *self.backbone.image.size, device=self.device)
        fwd = self.forward(blank, names)
        if fwd.plan.text_differs_by_image:
            raise DataError(
                f"{type(self.method).__name__} has no features of class names alone: they depend on the image."
            )
        return self._vectors(fwd.text(), "a class")

    def _vectors(self, features: Tensor, what: str) -> Tensor:
        if features.ndim != 2:
            raise DataError(f"{type(self.method).__name__} describes {what} by several vectors, not by one.")
        return features.float()

    def _trained_columns(self, names: Sequence[str], role: Role) -> list[int]:
        """Column of each class among the classes trained on; of two with the same name the first is the first there."""
        columns: dict[str, list[int]] = {}
        for column, name in enumerate(self.method.trained_classes):
            columns.setdefault(name, []).append(column)
        others = [name for name in names if name not in columns]
        if others or role is UNSEEN:
            raise DataError(
                f"{type(self.method).__name__} with these options knows only the {len(self.method.trained_classes)} "
                f"classes it was trained on; it cannot score others ({first_few(others or list(names))}). Use a method "
                "that reads class names, or the protocol few-shot."
            )
        return [columns[name].pop(0) if len(columns[name]) > 1 else columns[name][0] for name in names]
