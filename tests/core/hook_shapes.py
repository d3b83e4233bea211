"""Every way in which methods touch a backbone, each as a method of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests import small
from vlmadapt import Backbone
from vlmadapt.core.hooks import Site
from vlmadapt.plugin import (
    AFTER_ATTENTION,
    AFTER_BLOCK,
    AFTER_MLP,
    CONTEXT,
    EMBEDDING,
    END,
    FIRST,
    HIDDEN,
    IMAGE,
    MLP,
    NEXT_TO_NORM1,
    NEXT_TO_NORM2,
    NORM1,
    NORM2,
    OVER,
    PATCHES,
    ROW,
    TEXT,
    Hook,
    Method,
    Read,
    Task,
    adapt,
    head,
    inject,
    per_class,
    per_image,
    per_variant,
    prompt,
    teacher,
)

WIDTH, JOINT = 64, 32


@dataclass
class NoConfig:
    """No options."""


class Synthetic(Method):
    """A method made of whatever hooks a test wants; `self.t(...)` makes a trainable tensor."""

    Config = NoConfig

    def __init__(self, backbone: Backbone, declare: Callable[[Synthetic], Iterable[Hook]]):
        self.declare = declare
        self.generator = torch.Generator().manual_seed(3)
        super().__init__(NoConfig(), backbone, Task(small.NAMES, ("a photo of a {}.",)))
        self.tensors = nn.ParameterDict()
        list(self.hooks())

    def t(self, name: str, *shape: int, std: float = 0.3) -> Tensor:
        if name not in self.tensors:
            noise = torch.randn(*shape, generator=self.generator, dtype=torch.float64) * std
            self.tensors[name] = nn.Parameter(noise)
        return self.tensors[name]

    def branch(self, name: str) -> Callable[[Tensor], Tensor]:
        weight = self.t(name, WIDTH, WIDTH, std=0.05)
        return lambda x: torch.tanh(x @ weight)

    def convolution(self, name: str, width: int = WIDTH) -> Callable[[Tensor], Tensor]:
        """Each token and its neighbours, in a row (n, tokens, width) or on a grid (n, rows, columns, width)."""
        weight = self.t(name, width, 3, std=0.2)

        def branch(x: Tensor) -> Tensor:
            for axis in range(1, x.ndim - 1):
                lines = x.movedim(axis, -1).flatten(0, -3)  # (lines, width, tokens)
                x = nn.functional.conv1d(lines, weight[:, None], padding=1, groups=width).view_as(x.movedim(axis, -1))
                x = x.movedim(-1, axis)
            return x

        return branch

    def hooks(self) -> Iterable[Hook]:
        return self.declare(self)


def nothing(m: Synthetic) -> Iterable[Hook]:
    return ()


def first_in_both(m: Synthetic) -> Iterable[Hook]:
    """MMRL's shape: enter at a middle layer, blended at the next, read by a head with its own projection."""
    for side in (TEXT, IMAGE):
        yield inject(side, {1: m.t(f"{side}1", 3, WIDTH), 2: m.t(f"{side}2", 3, WIDTH)}, at=FIRST, blend=0.7)
    yield head(IMAGE, "extra", read="injected", mean=True, project=m.t("projection", WIDTH, JOINT))


def first_in_text_head(m: Synthetic) -> Iterable[Hook]:
    """A head that reads tokens of the shared prefix."""
    yield inject(TEXT, {0: m.t("a", 2, WIDTH)}, at=FIRST)
    yield head(TEXT, "extra", read="injected", mean=True)


def deep_context(m: Synthetic) -> Iterable[Hook]:
    """MaPLe's shape."""
    yield prompt("[2] of a {}.")
    yield inject(TEXT, {EMBEDDING: m.t("a", 2, WIDTH), 1: m.t("b", 2, WIDTH)}, at=CONTEXT)
    yield inject(IMAGE, {EMBEDDING: m.t("c", 2, WIDTH), 1: m.t("d", 2, WIDTH)}, at=END)


def context_in_the_middle(m: Synthetic) -> Iterable[Hook]:
    yield prompt("[2] {} [3].")
    yield inject(TEXT, {EMBEDDING: m.t("a", 5, WIDTH), 2: m.t("b", 5, WIDTH)}, at=CONTEXT, blend=0.5)


def context_read_by_a_head(m: Synthetic) -> Iterable[Hook]:
    """Learned vectors at positions that differ by class, read after the last block."""
    yield prompt("{} [2] of a [1].")
    yield inject(TEXT, {EMBEDDING: m.t("a", 3, WIDTH), 2: m.t("b", 3, WIDTH)}, at=CONTEXT, blend=0.5, name="learned")
    yield head(TEXT, "extra", read="learned", mean=True)


def context_in_front(m: Synthetic) -> Iterable[Hook]:
    yield prompt("{} [3].")
    yield inject(TEXT, {EMBEDDING: m.t("a", 3, WIDTH)}, at=CONTEXT)


def context_per_class(m: Synthetic) -> Iterable[Hook]:
    yield prompt("[3] {}.")
    yield inject(TEXT, {EMBEDDING: per_class(m.t("a", len(small.NAMES), 3, WIDTH))}, at=CONTEXT)


def class_tokens_at_a_deep_layer(m: Synthetic) -> Iterable[Hook]:
    """TCP's shape: tokens made of the frozen text features, replacing shared ones."""
    weight = m.t("map", JOINT, 3 * WIDTH)
    yield prompt("[3] {}.")
    made = per_class(lambda x: (x.zero_shot.text.to(weight) @ weight).unflatten(1, (3, WIDTH)))
    yield inject(TEXT, {EMBEDDING: m.t("a", 3, WIDTH), 2: made}, at=CONTEXT)


def context_per_image(m: Synthetic) -> Iterable[Hook]:
    """CoCoOp's shape."""
    weight = m.t("map", JOINT, WIDTH)
    context = m.t("a", 3, WIDTH)
    yield prompt("[3] {}.")
    shifted = per_image(lambda x: context + (x.image().to(weight) @ weight)[:, None])
    yield inject(TEXT, {EMBEDDING: shifted}, at=CONTEXT)


def variants_of_one_template(m: Synthetic) -> Iterable[Hook]:
    """PLOT's shape."""
    yield prompt("[3] {}.")
    yield inject(TEXT, {EMBEDDING: per_variant(m.t("a", 4, 3, WIDTH))}, at=CONTEXT)
    yield head(IMAGE, "local", read=Read.ALL)


def variants_of_several_templates(m: Synthetic) -> Iterable[Hook]:
    """ProDA's shape, templates in mixed order."""
    yield prompt("{} [4].", "[4] {}.", "[2] {} [2].", "[4] {}.")
    yield inject(TEXT, {EMBEDDING: per_variant(m.t("a", 4, 4, WIDTH))}, at=CONTEXT)


def local_tokens(m: Synthetic) -> Iterable[Hook]:
    """GalLoP's shape."""
    projection = m.t("projection", WIDTH, JOINT)
    yield adapt(IMAGE, 2, m.branch("last"), AFTER_ATTENTION)
    yield head(IMAGE, "local", read=Read.LOCAL, project=projection)


def several_passes(m: Synthetic) -> Iterable[Hook]:
    """PLOT++'s shape."""
    yield inject(IMAGE, {EMBEDDING: per_variant(m.t("a", 3, 2, WIDTH))}, at=END)


def read_only(m: Synthetic) -> Iterable[Hook]:
    """RPO's shape."""
    for side in (TEXT, IMAGE):
        yield inject(side, {EMBEDDING: m.t(side, 3, WIDTH)}, at=END, read_only=True)
        yield head(side, "pairs", read="injected")


def hidden_from_some(m: Synthetic) -> Iterable[Hook]:
    """TAC's shape: tokens that CLS reads and patches do not; and groups of a text of which one does not see another."""
    yield inject(IMAGE, {EMBEDDING: m.t("a", 3, WIDTH)}, at=END, hidden_from=[PATCHES, "later"], name="clusters")
    yield inject(IMAGE, {1: m.t("b", 2, WIDTH)}, at=FIRST, name="later")
    yield inject(TEXT, {0: m.t("c", 2, WIDTH)}, at=FIRST, hidden_from="second", name="first")
    yield inject(TEXT, {1: m.t("d", 2, WIDTH)}, at=END, name="second")
    yield head(TEXT, "second", read="second", mean=True)
    yield head(IMAGE, "clusters", read="clusters", mean=True)


def appended_and_seen_in_text(m: Synthetic) -> Iterable[Hook]:
    yield inject(TEXT, {1: m.t("a", 2, WIDTH)}, at=END)
    yield head(TEXT, "extra", read="injected", mean=True)


def branches_everywhere(m: Synthetic) -> Iterable[Hook]:
    for side in (TEXT, IMAGE):
        for site in set(Site) - {HIDDEN}:
            for layer in (1, 2):
                yield adapt(side, layer, m.branch(f"{side}{site}{layer}"), site)


def tokens_mixed(m: Synthetic) -> Iterable[Hook]:
    """Convolutions over a text and over the patches of an image, next to injected tokens, the last block included."""
    yield inject(TEXT, {0: m.t("a", 2, WIDTH)}, at=FIRST)
    yield inject(IMAGE, {EMBEDDING: m.t("b", 2, WIDTH)}, at=FIRST)
    for layer in (1, 2):
        yield adapt(TEXT, layer, m.convolution(f"text {layer}"), NORM1, mixes=ROW)
        yield adapt(IMAGE, layer, m.convolution(f"image {layer}"), NORM1, mixes=PATCHES)
    yield adapt(IMAGE, 2, m.convolution("whole image"), AFTER_MLP, replace=True, mixes=ROW)


def hidden_layers_mixed(m: Synthetic) -> Iterable[Hook]:
    """LwEIB's shape: convolutions over the hidden layer of MLPs."""
    for side, mixes in ((TEXT, ROW), (IMAGE, PATCHES)):
        yield adapt(side, 1, m.convolution(f"{side}", 4 * WIDTH), HIDDEN, mixes=mixes)
    yield adapt(IMAGE, 2, lambda x: x * m.t("scale", 4 * WIDTH), HIDDEN, replace=True)


def inner_heads(m: Synthetic) -> Iterable[Hook]:
    """AlignedNorm's shape: losses read what blocks leave, the last one included."""
    yield from first_in_both(m)
    for side in (TEXT, IMAGE):
        for layer in (0, 1, 2):
            read = "injected" if layer else Read.POOLED
            yield head(side, f"inner {layer}", read=read, after=layer)


def branches_that_replace(m: Synthetic) -> Iterable[Hook]:
    """Trained norms and per-channel maps: branches whose output takes the place of what they map."""
    for side in (TEXT, IMAGE):
        for site in (NEXT_TO_NORM1, NORM1, NEXT_TO_NORM2, NORM2, AFTER_ATTENTION, AFTER_MLP, AFTER_BLOCK, MLP):
            yield adapt(side, 1, m.branch(f"{side}{site}"), site, replace=True)


def branches_and_class_tokens(m: Synthetic) -> Iterable[Hook]:
    yield from branches_everywhere(m)
    yield from class_tokens_at_a_deep_layer(m)


def a_teacher(m: Synthetic) -> Iterable[Hook]:
    yield teacher("a {}.", "the photo of one {} in the rain.", normalize_each=False)
    yield from first_in_both(m)


def image_only(m: Synthetic) -> Iterable[Hook]:
    yield inject(IMAGE, {2: m.t("a", 2, WIDTH)}, at=FIRST)


def over_patches(m: Synthetic) -> Iterable[Hook]:
    """ProVP's shape with few tokens."""
    yield inject(IMAGE, {1: m.t("a", 2, WIDTH), 2: m.t("b", 2, WIDTH)}, at=OVER, blend=0.7)
    yield head(IMAGE, "written over", read="injected", mean=True)


SHAPES = [
    nothing, first_in_both, first_in_text_head, deep_context, context_in_the_middle, context_in_front,
    context_read_by_a_head, context_per_class, class_tokens_at_a_deep_layer, context_per_image,
    variants_of_one_template, local_tokens,
    variants_of_several_templates, several_passes, read_only, hidden_from_some,
    appended_and_seen_in_text, branches_everywhere,
    inner_heads, branches_that_replace, tokens_mixed,
    hidden_layers_mixed, branches_and_class_tokens, a_teacher, image_only, over_patches,
]  # fmt: skip
