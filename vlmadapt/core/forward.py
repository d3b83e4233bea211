"""One forward pass: images and class names -> tokens -> features -> logits.

    images (B, 3, H, W) -> image tower with the method's hooks -> features (B, joint)        |
                                                                                             |-> logits (B, classes)
    class names -> token ids -> text tower with the method's hooks -> features (classes, joint) |

Everything is computed lazily, when a method's losses or router first use it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from vlmadapt.core.descriptions import ClassDescriptions, Descriptions
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.engine import Engine
from vlmadapt.core.frozen_cache import autocast_precision
from vlmadapt.core.hooks import Hook, Prompt, Teacher, Tokens, prompt, teacher
from vlmadapt.core.image_bank import ImageBank
from vlmadapt.core.injection import Injected, injected_tokens
from vlmadapt.core.kept_text import MethodState
from vlmadapt.core.numerics import l2_normalize
from vlmadapt.core.plan import POOLED, Plan, derive
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.core.templates import Template
from vlmadapt.deprecated import warn_deprecated

T = TypeVar("T")

_AS_WRITTEN = prompt("{}", keep_underscores=True), teacher("{}", keep_underscores=True)


class Hooked(Protocol):
    """What a forward pass needs of a method: its hooks. Text features are kept for `nn.Module`s only."""

    def hooks(self) -> Iterable[Hook]:
        """Where the towers are touched."""


class ForwardPass:
    """A batch of images against a list of classes, computed lazily.

    Attributes:
        names: class names.
        zero_shot: features and logits of the frozen backbone for the same images and classes.
    """

    def __init__(
        self,
        engine: Engine,
        method: Hooked,
        names: Sequence[str],
        templates: Sequence[Template],
        images: Tensor | FrozenImages,
        labels: Tensor | None = None,
        described: ClassDescriptions | None = None,
        bank: ImageBank | None = None,
    ):
        self.names = tuple(names)
        self._described = described or ClassDescriptions({})
        self._bank = bank
        self._whole_texts = False  # names are whole sentences
        self._rows: Tensor | None = None
        self._labels = labels
        self._engine = engine
        self._method = method
        self._templates = tuple(templates)
        self._other_hooks: tuple[Hook, ...] | None = None
        self._stand_in: tuple[Hashable, ...] = ()  # tells apart methods that `other` was given
        self._once: dict[Hashable, Any] = {}
        self._views = _views(images)
        self._frozen = self._views[0]
        self._asked_of_images = False
        self.zero_shot = ZeroShot(self, engine)

    @property
    def images(self) -> Tensor:
        """Images (B, 3, H, W)."""
        self._asked_of_images = True
        return self._frozen.pixels

    @property
    def labels(self) -> Tensor:
        """Labels (B,): indices into `names`.

        Raises:
            ValueError: the pass has no labels, as in prediction.
        """
        if self._labels is None:
            raise ValueError("this forward pass has no labels; only training has.")
        self._asked_of_images = True
        return self._labels

    @property
    def device(self) -> torch.device:
        """Where the computation runs."""
        return self._frozen.device

    @property
    def scale(self) -> Tensor:
        """CLIP's logit scale."""
        return self._engine.backbone.scale

    # -- data flow ----------------------------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> Plan:
        """The method's hooks for this pass, sorted by tower."""
        hooks = self._method.hooks() if self._other_hooks is None else self._other_hooks
        if self._whole_texts:
            hooks = (*(hook for hook in hooks if not isinstance(hook, Prompt | Teacher)), *_AS_WRITTEN)
        return derive(hooks, self._engine.backbone, self._templates)

    @property
    def _teacher(self) -> Teacher:
        """Templates of the zero-shot text features; of sentences they need no plan, which may have no room for them."""
        return _AS_WRITTEN[1] if self._whole_texts else self.plan.teacher

    @property
    def image_features(self) -> dict[str, Tensor]:
        """Unnormalised image features `(B, [passes,] [tokens,] joint)` by head."""
        self._asked_of_images = True
        return self._image_features

    @cached_property
    def _image_features(self) -> dict[str, Tensor]:
        with self._engine.autocast():
            return self._engine.image.encode(self._frozen, self.plan.image, self._injected(IMAGE))

    @cached_property
    def text_features(self) -> dict[str, Tensor]:
        """Unnormalised text features `([variants or images,] classes, [tokens,] joint)` by head."""
        with self._engine.autocast():
            return self._text_features()

    def _text_features(self) -> dict[str, Tensor]:
        method, kept_text = self._method, self._engine.kept_text
        if not (self._may_keep_text() and isinstance(method, nn.Module)):
            return self._encode_text()
        kind = self.names, self.plan.prompts, self.plan.teacher, self._stand_in
        key = (kind, self.device, autocast_precision(self.device))
        found = kept_text.get(key, method)
        if found is None:
            self._asked_of_images = False
            found = self._encode_text()
            if not self._asked_of_images:  # else the tokens are those of this batch alone
                kept_text.keep(key, method, found)
        return found

    def features(self, side: Side, head: str = POOLED) -> Tensor:
        """Unnormalised features of a head: images (B, joint), text (classes, joint); further dimensions as declared."""
        found = self.text_features if side is TEXT else self.image_features
        if head == "class" and head not in found:
            warn_deprecated("the head 'class'", f"'{POOLED}'")
            head = POOLED
        return found[head]

    def image(self, head: str = POOLED) -> Tensor:
        """Unit image features (B, joint) of a head."""
        self._asked_of_images = True
        return self._compute_once(("image", head), lambda: l2_normalize(self.features(IMAGE, head)))

    def text(self, head: str = POOLED) -> Tensor:
        """Unit text features (classes, joint) of a head; (B, classes, joint) where tokens differ by image."""
        return self._compute_once(("text", head), lambda: l2_normalize(self.features(TEXT, head)))

    def logits(self, head: str = POOLED) -> Tensor:
        """The model's own logits of an image head and the classes, (B, classes).

        They are scale * cosine, plus the bias of models that have one (SigLIP); no softmax over classes feels it.
        """
        self._asked_of_images = True

        def compute() -> Tensor:
            return self._engine.backbone.logits(similarity(self.image(head), self.text()))

        return self._compute_once(("logits", head), compute)

    # -- class descriptions -------------------------------------------------------------------------------------------

    @property
    def descriptions(self) -> Descriptions:
        """The sentences that describe these classes, from `--descriptions` or the data set.

        Raises:
            DataError: a class has none.
        """
        return self._described.of(self.names)

    def sentences(self, texts: Descriptions | None = None, rows: Tensor | None = None) -> ForwardPass:
        """A derived forward pass over sentences instead of classes: its text features have a row for each sentence.

        The method's hooks are those of this pass, but for `prompt` and `teacher`: sentences are encoded as written.

        Args:
            texts: the sentences, by default `descriptions`.
            rows: indices (n,) on the device of the sentences that are encoded, all of them by default.
        """
        self._asked_of_images = True  # that pass may ask for them
        texts = self.descriptions if texts is None else texts
        fwd = self.other(names=texts.sentences)
        fwd._whole_texts, fwd._rows = True, rows
        return fwd

    # -- for methods --------------------------------------------------------------------------------------------------

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A value computed at most once per pass."""
        self._asked_of_images = True  # it may depend on them
        return self._compute_once(("method", key), compute)

    def other(
        self,
        *,
        hooks: Iterable[Hook] | None = None,
        method: nn.Module | None = None,
        names: Sequence[str] | None = None,
        keep: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> ForwardPass:
        """A derived forward pass with other hooks, other classes, or a subset of the images.

        Args:
            hooks: hooks instead of the method's.
            method: a module with hooks of its own instead of the method; in evaluation its text features are kept
                as those of the method are.
            names: class names instead of these.
            keep: indices of the images to keep.
            labels: labels of the images kept, by default their own.
        """
        self._asked_of_images = True  # that pass may ask for them
        views = self._views if keep is None else tuple(view.select(keep) for view in self._views)
        if labels is None and self._labels is not None:
            labels = self._labels if keep is None else self._labels[keep]
        names = self.names if names is None else names
        fwd = self._derived(names, views[0], labels)
        fwd._views = views
        if hooks is not None:
            fwd._other_hooks = tuple(hooks)
        if method is not None:
            fwd._method, fwd._other_hooks = cast(Hooked, method), None
            fwd._stand_in = MethodState(method).values
        return fwd

    def images_of(self, classes: Tensor) -> ForwardPass:
        """A derived forward pass over one random training image of each class, drawn on the device.

        Only in steps of a method with `draws_images`.

        Args:
            classes: (n,) indices into `names`, which are the labels of that pass.

        Raises:
            ValueError: this is no such step.
        """
        if self._bank is None:
            raise ValueError("no training images to draw from: set `draws_images` in the method; only its steps can.")
        return self._derived(self.names, self._bank.draw(classes), classes)

    def _derived(self, names: Sequence[str], images: FrozenImages, labels: Tensor | None) -> ForwardPass:
        """A pass of the same method and hooks."""
        method, templates = self._method, self._templates
        fwd = ForwardPass(self._engine, method, names, templates, images, labels, self._described, self._bank)
        fwd._other_hooks, fwd._stand_in = self._other_hooks, self._stand_in
        return fwd

    def view(self, index: int) -> ForwardPass:
        """The pass of another augmented view of the same images, counted from 0, the view of this pass.

        Raises:
            ValueError: there are fewer views; the class attribute `views_per_step` says how many a step gets.
        """
        if index >= len(self._views):
            raise ValueError(f"view {index} of {len(self._views)}: set views_per_step = {index + 1} in the method.")
        fwd = self.other()
        fwd._frozen = self._views[index]
        return fwd

    def _compute_once(self, key: Hashable, compute: Callable[[], T]) -> T:
        if key not in self._once:
            self._once[key] = compute()
        return self._once[key]

    def _encode_text(self) -> dict[str, Tensor]:
        return self._engine.text.encode(self.names, self.plan, self._injected(TEXT), self._rows)

    def _injected(self, side: Side) -> Injected:
        """The tokens that the method declares for a tower, functions of this pass evaluated."""

        def evaluate(tokens: Tokens) -> Tensor:
            return tokens.values(self) if callable(tokens.values) else tokens.values

        return injected_tokens(self.plan.tower(side), side, self._engine.backbone.tower(side).width, evaluate)

    def _may_keep_text(self) -> bool:
        """Whether these text features are the same for every batch until the method changes."""
        return (
            self._engine.optimizations.keep_text
            and not torch.is_grad_enabled()
            and self._other_hooks is None
            and self._rows is None
            and not self.plan.text_differs_by_image
        )


def _views(images: Tensor | FrozenImages) -> tuple[FrozenImages, ...]:
    """Views of images (B, 3, H, W), or (B, views, 3, H, W)."""
    if isinstance(images, FrozenImages):
        return (images,)
    return tuple(map(FrozenImages, images.unbind(1))) if images.ndim == 5 else (FrozenImages(images),)


class ZeroShot:
    """Features and logits of the frozen backbone for the same images and classes, without gradients."""

    def __init__(self, fwd: ForwardPass, engine: Engine):
        self._fwd = fwd
        self._engine = engine

    @property
    def image(self) -> Tensor:
        """Unit image features (B, joint) of the same augmented images."""
        self._fwd._asked_of_images = True
        return self._image

    @cached_property
    def _image(self) -> Tensor:
        with self._engine.autocast():
            return l2_normalize(self._engine.image.encode_zero_shot(self._fwd._frozen, self._fwd.plan.image))

    @cached_property
    def text(self) -> Tensor:
        """Unit text features (classes, joint) from hand-written templates."""
        with self._engine.autocast():
            found = self._engine.text.encode_zero_shot(self._fwd.names, self._fwd._teacher)
        return found if self._fwd._rows is None else found.index_select(0, self._fwd._rows)

    @cached_property
    def template_features(self) -> Tensor:
        """Unnormalised text features (templates, classes, joint) of each hand-written template."""
        with self._engine.autocast():
            return self._engine.text.encode_templates(self._fwd.names, self._fwd._teacher)

    @property
    def logits(self) -> Tensor:
        """The model's own logits, (B, classes)."""
        return self._engine.backbone.logits(similarity(self.image, self.text))


def similarity(image: Tensor, text: Tensor) -> Tensor:
    """Cosines (B, classes) of unit features (B, joint) with (classes, joint) or, per image, (B, classes, joint)."""
    return image @ text.T if text.ndim == 2 else torch.einsum("bd,bcd->bc", image, text)
