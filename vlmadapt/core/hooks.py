"""Where a method touches the towers, as plain data: token injection, block adapters, projection heads, prompts.

A method yields these declarations from `Method.hooks`. Nothing here computes: `vlmadapt.core.plan` derives from them
what can differ from the frozen backbone, and the engine runs the towers accordingly. Losses and inference routers, the
two hook points that are code, are methods of `vlmadapt.core.method.Method`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from vlmadapt.core.side import Side
from vlmadapt.core.templates import Template
from vlmadapt.core.token_map import EVERYONE
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
    its positions. With `OVER` the first layer blends too, because patches are already there.

    The group attends to the whole sequence. The tokens named in `hidden_from` may not attend to it: other groups by
    their names, the patches of an image by `PATCHES`, or every token, the group's own included, by `EVERYONE`.
    """

    tower: Side
    layers: Mapping[int, Tokens]
    at: Slot
    blend: float
    hidden_from: tuple[str, ...]
    name: str


class Site(StrEnum):
    """Where a branch acts in a block: what it reads, and what its output is added to or replaces."""

    # branches next to a part: they read the part's input
    NEXT_TO_NORM1 = "next to norm1"  # reads x, adds to norm1(x)
    NEXT_TO_NORM2 = "next to norm2"  # reads x after attention, adds to norm2(x)
    BLOCK = "block"  # reads norm1(x), adds to the block's output
    QUERY = "query"  # reads norm1(x), adds to q
    KEY = "key"
    VALUE = "value"
    ATTENTION = "attention"  # reads the heads' joined output, adds to the attention's output
    MLP = "mlp"  # reads norm2(x), adds to the MLP's output
    # branches after a part: they read the part's output, that of the branches next to it included
    NORM1 = "norm1"  # before q, k, v and BLOCK read it
    NORM2 = "norm2"  # before the MLP reads it
    AFTER_ATTENTION = "after attention"  # before it is added to x
    HIDDEN = "hidden"  # the MLP's first linear map, before the activation reads it; wider than x
    AFTER_MLP = "after mlp"  # before it is added to x
    AFTER_BLOCK = "after block"


BLOCK, QUERY, KEY, VALUE, ATTENTION, MLP = Site.BLOCK, Site.QUERY, Site.KEY, Site.VALUE, Site.ATTENTION, Site.MLP
NEXT_TO_NORM1, NEXT_TO_NORM2 = Site.NEXT_TO_NORM1, Site.NEXT_TO_NORM2
NORM1, NORM2 = Site.NORM1, Site.NORM2
AFTER_ATTENTION, AFTER_MLP, AFTER_BLOCK = Site.AFTER_ATTENTION, Site.AFTER_MLP, Site.AFTER_BLOCK
HIDDEN = Site.HIDDEN


class Mixes(StrEnum):
    """Which tokens of a sequence a branch sees together, if it does not map each by itself."""

    ROW = "row"  # all of them in order, padding and injected ones included: (sequences, tokens, width)
    PATCHES = "patches"  # the patches of an image on their grid: (images, rows, columns, width); others are left alone


ROW, PATCHES = Mixes.ROW, Mixes.PATCHES

Branch = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class BlockAdapter:
    """A trainable branch on one block; it maps each token by itself, (..., width) -> (..., width), unless it `mixes`.

    Its output is added to what stands at its site or, with `replace`, takes its place.
    """

    tower: Side
    layer: int
    branch: Branch
    site: Site
    replace: bool = False
    mixes: Mixes | None = None


class Read(StrEnum):
    """Which output tokens of a tower a head reads, if not an injected group by its name."""

    POOLED = "pooled"  # the token the tower itself pools: CLS, end of text
    CLASS = POOLED  # its name in plugin API 1
    ALL = "all"  # every token, the leading one first
    LOCAL = "local"  # the same if in the last block each token attended to itself alone; image tower only


@dataclass(frozen=True)
class Head:
    """A named feature of a tower: chosen output tokens, after the final norm, averaged or not, and projected.

    `project` is a matrix (width, joint), a function (..., width) -> (..., joint), or None for CLIP's own projection.
    With `after`, the feature is those tokens as block `after` leaves them, without norm and projection.
    """

    tower: Side
    name: str
    read: Read | str
    mean: bool
    project: Tensor | Callable[[Tensor], Tensor] | None
    after: int | None = None


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
    hidden_from: Sequence[str] = (),
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
        hidden_from: which tokens may not attend to them: `PATCHES` of an image, other groups by their names.
        name: for heads that read them.
    """
    tokens = {layer: value if isinstance(value, Tokens) else Tokens(value) for layer, value in sorted(layers.items())}
    given = (hidden_from,) if isinstance(hidden_from, str) else tuple(hidden_from)
    return Injection(tower, tokens, at, blend, (EVERYONE,) if read_only else given, name)


def per_class(values: Values) -> Tokens:
    """Tokens (classes, n, width), one group for each class."""
    return Tokens(values, Per.CLASS)


def per_image(values: Values) -> Tokens:
    """Tokens (images, n, width), one group for each image of the batch."""
    return Tokens(values, Per.IMAGE)


def per_variant(values: Values) -> Tokens:
    """Tokens (variants, n, width): one group for each sequence of a class, or for each pass of an image."""
    return Tokens(values, Per.VARIANT)


def adapt(
    tower: Side,
    layer: int,
    branch: Branch,
    site: Site = BLOCK,
    *,
    replace: bool = False,
    mixes: Mixes | None = None,
) -> BlockAdapter:
    """Add a trainable branch to block `layer` (from 0) of a tower.

    Args:
        tower: `TEXT` or `IMAGE`.
        layer: of the block.
        branch: maps tokens (..., width) -> (..., width), each by itself unless `mixes` says otherwise.
        site: where it acts. Branches at one site act in the order they are declared.
        replace: its output replaces what stands there (a trained norm, a per-channel affine) instead of being added.
        mixes: the branch sees tokens of one sequence together: `ROW` gives it whole sequences (sequences, tokens,
            width), `PATCHES` the patches of images (images, rows, columns, width); it returns the same shape. The text
            tower then computes every token of the context, padding included.
    """
    return BlockAdapter(tower, layer, branch, site, replace, mixes)


def head(
    tower: Side,
    name: str,
    *,
    read: Read | str = Read.POOLED,
    mean: bool = False,
    project: Tensor | Callable[[Tensor], Tensor] | None = None,
    after: int | None = None,
) -> Head:
    """Add a feature to a tower.

    Args:
        tower: `TEXT` or `IMAGE`.
        name: for `fwd.image(name)` and the like.
        read: `Read.POOLED`, `Read.ALL`, `Read.LOCAL`, or the name of an injected group. Tokens read as `LOCAL` mix with
            no other in the last block, so that a patch's feature is more that of its own content.
        mean: average the tokens after the final norm.
        project: matrix (width, joint) or function (..., width) -> (..., joint); by default CLIP's own projection.
        after: read the tokens (n, width) as this block (from 0) leaves them instead, for losses that look inside the
            tower; `fwd.features(tower, name)` gives them.
    """
    return Head(tower, name, read, mean, project, after)


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
