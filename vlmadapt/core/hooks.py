"""The places where a method may touch the towers, as plain data.

A method yields these from `Method.hooks`. Nothing here computes: the engine reads the declarations, derives from them
what can change at all (`vlmadapt.core.plan`) and runs the towers accordingly. Losses and routers, the two hook points
that are code, are methods of `vlmadapt.core.method.Method`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from torch import Tensor

from vlmadapt.core.templates import Template

if TYPE_CHECKING:
    from vlmadapt.core.forward import Forward


class Side(StrEnum):
    """The two towers of a dual encoder."""

    TEXT = "text"
    IMAGE = "image"


TEXT, IMAGE = Side.TEXT, Side.IMAGE

EMBEDDING = -1
"""The layer index of the embedded row, before block 0.

Tokens that enter here pass what the tower does to its own embeddings: the positional embedding of their place in the
text tower, the first norm in the image tower (where appended tokens have no position).
"""


class Slot(StrEnum):
    """Where in the row injected tokens live."""

    FIRST = "first"  # inserted right behind the leading token (CLS / start of text)
    END = "end"  # appended behind the last token
    CONTEXT = "context"  # in place of the `[n]` placeholders of the class template; text tower only
    OVER = "over"  # in place of the tokens right behind CLS, the first patches; image tower only


FIRST, END, CONTEXT, OVER = Slot.FIRST, Slot.END, Slot.CONTEXT, Slot.OVER


class Per(StrEnum):
    """What injected tokens differ by."""

    ALL = "all"  # (n, width): shared by every row
    CLASS = "class"  # (classes, n, width): each class has its own
    IMAGE = "image"  # (images, n, width): each image has its own
    VARIANT = "variant"  # (variants, n, width): several rows per class, or several passes per image


Values = Tensor | Callable[["Forward"], Tensor]


@dataclass(frozen=True)
class Tokens:
    """Tokens and what they differ by; `values` may be a function of the forward pass (zero-shot features, images)."""

    values: Values
    per: Per = Per.ALL


@dataclass(frozen=True)
class Prompt:
    """What is written for each class: templates with `{}` for the class name and `[n]` for n learned vectors.

    Several templates make several rows per class (variants), in that order.
    """

    templates: tuple[Template, ...]


@dataclass(frozen=True)
class Injection:
    """A group of tokens that enters a tower at the first of its layers and is rewritten at the following ones.

    At a later layer the group becomes `blend * fresh + (1 - blend) * flowed`, where `flowed` is what the previous
    block left at its place; with `OVER`, where something stands before the group enters, at its first layer too.
    Read-only tokens see the row but are seen by no token, themselves included.
    """

    tower: Side
    layers: Mapping[int, Tokens]
    at: Slot
    blend: float
    read_only: bool
    name: str


class Site(StrEnum):
    """Where in a block a branch is added: to the output of that part, computed from its input."""

    BLOCK = "block"  # norm1(x) -> added to the block's output
    QUERY = "query"  # norm1(x) -> added to q
    KEY = "key"
    VALUE = "value"
    ATTENTION = "attention"  # the heads' joined output -> added to the attention's output
    MLP = "mlp"  # norm2(x) -> added to the MLP's output


BLOCK, QUERY, KEY, VALUE, ATTENTION, MLP = Site.BLOCK, Site.QUERY, Site.KEY, Site.VALUE, Site.ATTENTION, Site.MLP

Branch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Adapter:
    """A trainable branch on one block; it maps each token by itself, (..., width) -> (..., width)."""

    tower: Side
    layer: int
    branch: Branch
    site: Site


class Read(StrEnum):
    """Which output tokens of a tower a head reads, where it does not read an injected group by its name."""

    CLASS = "class"  # what the tower itself pools: CLS, end of text
    ALL = "all"  # every token, the leading one first


@dataclass(frozen=True)
class Head:
    """A named feature of a tower: chosen output tokens, after the final norm, reduced and projected.

    `project` is a matrix (width, joint), a function (..., width) -> (..., joint), or None for CLIP's own projection.
    """

    tower: Side
    name: str
    read: Read | str
    mean: bool
    project: Tensor | Callable[[Tensor], Tensor] | None


@dataclass(frozen=True)
class Teacher:
    """Templates behind the zero-shot text features, and how several of them are averaged."""

    templates: tuple[Template, ...]
    unit: bool
    own: bool = False


Hook = Prompt | Injection | Adapter | Head | Teacher


def prompt(*templates: str | Template, raw: bool = False) -> Prompt:
    """Write each class with these templates instead of the data set's, e.g. `prompt("[4] {}.")`.

    Args:
        templates: one, or one for each variant of a class.
        raw: write class names with their underscores.
    """
    return Prompt(_templates(templates, raw))


def inject(
    tower: Side,
    layers: Mapping[int, Tensor | Tokens],
    *,
    at: Slot,
    blend: float = 1.0,
    read_only: bool = False,
    name: str = "injected",
) -> Injection:
    """Tokens for a tower.

    Args:
        tower: `TEXT` or `IMAGE`.
        layers: tokens by layer; layer `l` means "before block l", counted from 0, `EMBEDDING` before them all. A bare
            tensor (n, width) is shared by all rows; see `per_class`, `per_image`, `per_variant`.
        at: the slot: `FIRST`, `END`, `CONTEXT` or `OVER`.
        blend: weight of the fresh tokens at every layer but the first, with `OVER` at every layer (1 replaces).
        read_only: no token may attend to them.
        name: by which a head reads them.
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
    """Tokens (variants, n, width): one group for each row of a class, or for each pass of an image."""
    return Tokens(values, Per.VARIANT)


def adapt(tower: Side, layer: int, branch: Branch, site: Site = BLOCK) -> Adapter:
    """A trainable branch on block `layer` (from 0) of a tower."""
    return Adapter(tower, layer, branch, site)


def head(
    tower: Side,
    name: str,
    *,
    read: Read | str = Read.CLASS,
    mean: bool = False,
    project: Tensor | Callable[[Tensor], Tensor] | None = None,
) -> Head:
    """A further feature of a tower; `read` names an injected group, `mean` averages its tokens after the final norm."""
    return Head(tower, name, read, mean, project)


def teacher(*templates: str | Template, unit: bool = True, own: bool = False, raw: bool = False) -> Teacher:
    """Zero-shot text features from these templates instead of the data set's.

    Args:
        templates: texts with `{}`.
        unit: normalise each template's feature before averaging (CLIP's ensemble); False averages raw features
            (PromptSRC). The result is normalised either way.
        own: the data set's templates are averaged too.
        raw: write class names with their underscores.
    """
    return Teacher(_templates(templates, raw), unit, own)


def _templates(templates: tuple[str | Template, ...], raw: bool) -> tuple[Template, ...]:
    return tuple(t if isinstance(t, Template) else Template.parse(t, raw=raw) for t in templates)
