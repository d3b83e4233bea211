"""One forward pass: what losses and routers can ask of a batch of images and a list of classes."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from vlmadapt.core.engine import Engine
from vlmadapt.core.hooks import TEXT, Hook, Side
from vlmadapt.core.numerics import unit
from vlmadapt.core.plan import CLASS_HEAD, Plan, derive
from vlmadapt.core.templates import Template

if TYPE_CHECKING:
    from vlmadapt.core.method import Method

T = TypeVar("T")


class Forward:
    """A batch of images against a list of classes; everything is computed when it is first asked for.

    Attributes:
        images: (B, 3, H, W).
        labels: (B,) indices into `names`, None outside training.
        names: class names.
        zero_shot: the same questions answered by the frozen backbone.
    """

    def __init__(
        self,
        engine: Engine,
        method: Method,
        names: Sequence[str],
        templates: Sequence[Template],
        images: Tensor,
        labels: Tensor | None = None,
    ):
        self.images = images
        self.names = tuple(names)
        self._labels = labels
        self._engine = engine
        self._method = method
        self._templates = tuple(templates)
        self._hooks: Iterable[Hook] | None = None
        self._done: dict[Hashable, Any] = {}
        self._of_images: dict[Hashable, Any] = {}
        self.zero_shot = ZeroShot(self, engine)

    def other(
        self,
        *,
        hooks: Iterable[Hook] | None = None,
        names: Sequence[str] | None = None,
        keep: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> Forward:
        """The same batch seen otherwise: with other hooks, against other classes, or only some of its images.

        Args:
            hooks: instead of the method's.
            names: instead of these classes.
            keep: indices of the images to keep.
            labels: of the images kept, by default their own.
        """
        images = self.images if keep is None else self.images[keep]
        if labels is None and self._labels is not None:
            labels = self._labels if keep is None else self._labels[keep]
        x = Forward(self._engine, self._method, names or self.names, self._templates, images, labels)
        x._hooks = self._hooks if hooks is None else tuple(hooks)
        if keep is None:
            x._of_images = self._of_images
        return x

    @property
    def labels(self) -> Tensor:
        """(B,) indices into `names`.

        Raises:
            ValueError: there are none, as when predicting.
        """
        if self._labels is None:
            raise ValueError("this forward pass has no labels; only training has.")
        return self._labels

    @property
    def device(self) -> torch.device:
        """Where the computation runs."""
        return self.images.device

    @property
    def scale(self) -> Tensor:
        """CLIP's logit scale."""
        return self._engine.backbone.scale

    @cached_property
    def plan(self) -> Plan:
        """The method's hooks for this pass, sorted by tower."""
        hooks = self._method.hooks() if self._hooks is None else self._hooks
        return derive(hooks, self._engine.backbone, self._templates)

    def features(self, side: Side, head: str = CLASS_HEAD) -> Tensor:
        """Unnormalised features of a head: images (B, joint), text (classes, joint); further dimensions as declared."""
        compute = self._engine.text_features if side is TEXT else self._engine.image_features
        return self.once(side, lambda: compute(self))[head]

    def image(self, head: str = CLASS_HEAD) -> Tensor:
        """Unit image features (B, joint) of a head."""
        return self.once(("image", head), lambda: unit(self.features(Side.IMAGE, head)))

    def text(self, head: str = CLASS_HEAD) -> Tensor:
        """Unit text features (classes, joint) of a head; (B, classes, joint) where tokens differ by image."""
        return self.once(("text", head), lambda: unit(self.features(TEXT, head)))

    def logits(self, head: str = CLASS_HEAD) -> Tensor:
        """scale * cosine of an image head with the classes, (B, classes)."""
        return self.once(("logits", head), lambda: self.scale * similarity(self.image(head), self.text()))

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A value that is computed at most once in this pass."""
        if key not in self._done:
            self._done[key] = compute()
        return self._done[key]

    def once_for_images(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A frozen value that depends on the images alone; shared with what `other` returns for the same images."""
        if key not in self._of_images:
            self._of_images[key] = compute()
        return self._of_images[key]

    def method_state(self) -> Hashable | None:
        """Changes whenever the method would answer differently; None where that cannot be told."""
        if self._hooks is not None:
            return None
        tensors = tuple((id(t), t._version) for t in (*self._method.parameters(), *self._method.buffers()))
        return tensors, repr(self._method.config), self._method.training


class ZeroShot:
    """What the frozen backbone says about the same images and classes; without gradients."""

    def __init__(self, x: Forward, engine: Engine):
        self._x = x
        self._engine = engine

    @cached_property
    def image(self) -> Tensor:
        """Unit image features (B, joint) of the same augmented images."""
        return unit(self._engine.zero_shot_image(self._x))

    @cached_property
    def text(self) -> Tensor:
        """Unit text features (classes, joint) from hand-written templates."""
        return self._engine.zero_shot_text(self._x)

    @cached_property
    def logits(self) -> Tensor:
        """scale * cosine, (B, classes)."""
        return self._x.scale * similarity(self.image, self.text)


def similarity(image: Tensor, text: Tensor) -> Tensor:
    """Cosines (B, classes) of unit features (B, joint) with (classes, joint) or, per image, (B, classes, joint)."""
    return image @ text.T if text.ndim == 2 else torch.einsum("bd,bcd->bc", image, text)
