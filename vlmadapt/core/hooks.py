"""Where a method touches the towers, as plain data: token injection, block adapters, projection heads, prompts.

A method yields these declarations from `Method.hooks`. Nothing here computes: `vlmadapt.core.plan` derives from them
what can differ from the frozen backbone, and the engine runs the towers accordingly. Losses and inference routers, the
two hook points that are code, are methods of `vlmadapt.core.method.Method`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from vlmadapt.core.side import Side
from vlmadapt.core.templates import Template
from vlmadapt.deprecated import renamed_arguments

EMBEDDING = -1
"""Layer index of the embedded sequence, before block 0.

Tokens injected here get what the tower gives its own embeddings: the positional embedding of their position in the text
tower, the first norm in the image tower (where appended tokens have no position).
"""


class Slot(StrEnum):
    """Position of injected tokens in the sequence."""

    FIRST = "first"  # inserted right after the leading token (CLS / start of text)
    END = "end"  # appended after the last token
    CONTEXT = "context"  # in place of the `[n]` placeholders of the class template; text tower only
    OVER = "over"  # in place of the tokens right after CLS, the first patches; image tower only


FIRST, END, CONTEXT, OVER = Slot.FIRST, Slot.END, Slot.CONTEXT, Slot.OVER


class Per(StrEnum):
    """What injected tokens differ by."""

    ALL = "all"  # (n, width): shared by every sequence
    CLASS = "class"  # (classes, n, width): one group for each class
    IMAGE = "image"  # (images, n, width): one group for each image
    VARIANT = "variant"  # (variants, n, width): several sequences per class, or several passes per image


Values = Tensor | Callable[..., Tensor]


@dataclass(frozen=True)
class Tokens:
    """Tokens and what they differ by; `values` may be a function of the forward pass (zero-shot features, images)."""

    values: Values
    per: Per = Per.ALL


@dataclass(frozen=True)
class Prompt:
    """The text written for each class: templates with `{}` for the class name and `[n]` for n learned vectors.

    Several templates give several sequences per class (variants), in that order.
    """

    templates: tuple[Template, ...]


@dataclass(frozen=True)
class Injection:
    """A group of tokens that enters a tower at the first of its layers and is rewritten at the following ones.

    At later layers the group becomes `blend * new + (1 - blend) * old`, where `old` is the previous block's output at
    its positions. With `OVER` the first layer blends too, because patches are already there. Read-only tokens attend to
    the sequence, but no token attends to them, themselves included.
    """

    tower: Side
    layers: Mapping[int, Tokens]
    at: Slot
    blend: float
    read_only: bool
    name: str


class Site(StrEnum):
    """The part of a block whose output a branch is added to; the branch gets that part's input."""

    BLOCK = "block"  # norm1(x) -> added to the block's output
    QUERY = "query"  # norm1(x) -> added to q
    KEY = "key"
    VALUE = "value"
    ATTENTION = "attention"  # the heads' joined output -> added to the attention's output
    MLP = "mlp"  # norm2(x) -> added to the MLP's output


BLOCK, QUERY, KEY, VALUE, ATTENTION, MLP = Site.BLOCK, Site.QUERY, Site.KEY, Site.VALUE, Site.ATTENTION, Site.MLP

Branch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BlockAdapter:
    """A trainable branch on one block; it maps each token by itself, (..., width) -> (..., width)."""

    tower: Side
    layer: int
    branch: Branch
    site: Site


class Read(StrEnum):
    """Which output tokens of a tower a head reads, if not an injected group by its name."""

    POOLED = "pooled"  # the token the tower itself pools: CLS, end of text
    CLASS = POOLED  # its name in plugin API 1
    ALL = "all"  # every token, the leading one first


@dataclass(frozen=True)
class Head:
    """A named feature of a tower: chosen output tokens, after the final norm, averaged or not, and projected.

    `project` is a matrix (width, joint), a function (..., width) -> (..., joint), or None for CLIP's own projection.
    """

    tower: Side
    name: str
    read: Read | str
    mean: bool
    project: Tensor | Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Teacher:
    """Templates of the zero-shot text features, and how several of them are averaged."""

    templates: tuple[Template, ...]
    normalize_each: bool
    with_dataset_templates: bool = False


Hook = Prompt | Injection | BlockAdapter | Head | Teacher


@renamed_arguments(raw="keep_underscores")
def prompt(*templates: str | Template, keep_underscores: bool = False) -> Prompt:
    """Write each class with these templates instead of the data set's, e.g. `prompt("[4] {}.")`.

    Args:
        templates: one, or one for each variant of a class.
        keep_underscores: write class names with their underscores instead of spaces.
    """
    return Prompt(_templates(templates, keep_underscores))


def inject(
    tower: Side,
    layers: Mapping[int, Tensor | Tokens],
    *,
    at: Slot,
    blend: float = 1.0,
    read_only: bool = False,
    name: str = "injected",
) -> Injection:
    """Inject tokens into a tower.

    Args:
        tower: `TEXT` or `IMAGE`.
        layers: tokens by layer; layer `l` means "before block l", counted from 0, `EMBEDDING` before them all. A bare
            tensor (n, width) is shared by all sequences; see `per_class`, `per_image`, `per_variant`.
        at: the slot: `FIRST`, `END`, `CONTEXT` or `OVER`.
        blend: weight of the new tokens at every layer but the first, with `OVER` at every layer (1 replaces).
        read_only: no token may attend to them.
        name: for heads that read them.
    """
    tokens = {layer: value if isinstance(value, Tokens) else Tokens(value) for layer, value in sorted(layers.items())}
    return Injection(tower, tokens, at, blend, read_only, name)


def per_class(values: Values) -> Tokens:
    """Tokens (classes, n, width), one group for each class."""
    return Tokens(values, Per.CLASS)


def per_image(values: Values) -> Tokens:
    """Tokens (images, n, width), one group for each image of the batch."""
    return Tokens(values, Per.IMAGE)


def per_variant(values: Values) -> Tokens:
    """Tokens (variants, n, width): one group for each sequence of a class, or for each pass of an image."""
    return Tokens(values, Per.VARIANT)


def adapt(tower: Side, layer: int, branch: Branch, site: Site = BLOCK) -> BlockAdapter:
    """Add a trainable branch to block `layer` (from 0) of a tower."""
    return BlockAdapter(tower, layer, branch, site)


def head(
    tower: Side,
    name: str,
    *,
    read: Read | str = Read.POOLED,
    mean: bool = False,
    project: Tensor | Callable[[Tensor], Tensor] | None = None,
) -> Head:
    """Add a feature to a tower; `read` names an injected group, `mean` averages its tokens after the final norm."""
    return Head(tower, name, read, mean, project)


@renamed_arguments(unit="normalize_each", own="with_dataset_templates", raw="keep_underscores")
def teacher(
    *templates: str | Template,
    normalize_each: bool = True,
    with_dataset_templates: bool = False,
    keep_underscores: bool = False,
) -> Teacher:
    """Take the zero-shot text features from these templates instead of the data set's.

    Args:
        templates: texts with `{}`.
        normalize_each: normalise each template's feature before averaging (CLIP's ensemble); False averages
            unnormalised features (PromptSRC). The average is normalised either way.
        with_dataset_templates: average the data set's templates too.
        keep_underscores: write class names with their underscores instead of spaces.
    """
    return Teacher(_templates(templates, keep_underscores), normalize_each, with_dataset_templates)


def _templates(templates: tuple[str | Template, ...], keep_underscores: bool) -> tuple[Template, ...]:
    return tuple(
        t if isinstance(t, Template) else Template.parse(t, keep_underscores=keep_underscores) for t in templates
    )
