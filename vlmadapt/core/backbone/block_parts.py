"""The parts that every transformer block is made of, whatever library it comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from torch import Tensor, nn


class MlpMaps(NamedTuple):
    """An MLP in two maps: `mlp(x) = rest(first(x))`.

    Attributes:
        first: the first linear map, (..., width) -> (..., hidden width).
        rest: activation, second linear map, layer scale: (..., hidden width) -> (..., width).
        width: the hidden width.
    """

    first: Callable[[Tensor], Tensor]
    rest: Callable[[Tensor], Tensor]
    width: int


class BlockParts(Protocol):
    """A block in its parts, each of which maps (..., width):

        x = post_norm1(x + output(attention(norm1(x))))
        x = post_norm2(x + mlp(norm2(x)))

    In a pre-norm block (CLIP) the last norms do nothing, in a post-norm block (BERT) the first ones. Queries and keys
    of single heads, scores and the heads' joined output have parts of their own, which do nothing in CLIP.

    Attributes:
        module: the block itself.
        heads: number of attention heads.
        scale: factor of the attention scores; None for CLIP's 1 / sqrt(head width).
        norms: the frozen modules of both norms, to be copied where a method trains them.
        post_norm: True if these are the last ones.
        in_float16: False if activations may leave the range of float16.
    """

    module: nn.Module
    heads: int
    scale: float | None = None
    norms: tuple[nn.Module, nn.Module]
    post_norm: bool = False
    in_float16: bool = True

    def norm1(self, x: Tensor) -> Tensor:
        """The norm before attention."""

    def query(self, x: Tensor) -> Tensor:
        """Queries of all heads side by side, (..., width)."""

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all heads, (..., width) each."""

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """All three at once."""

    def query_norm(self, x: Tensor) -> Tensor:
        """The norm of each head's queries, (..., head width)."""
        return x

    def key_norm(self, x: Tensor) -> Tensor:
        """The norm of each head's keys, (..., head width)."""
        return x

    def rotary(self) -> Tensor | None:
        """Sine and cosine (patches, 2 * head width) of each patch's position; None without rotary positions."""
        return None

    def rotate(self, x: Tensor, angles: Tensor) -> Tensor:
        """Queries or keys (..., tokens, head width), turned by the sines and cosines (..., tokens, 2 * head width)."""
        return x

    def position_bias(self, length: int) -> Tensor | None:
        """What attention adds to its scores, (heads, query, key), for `length` tokens of the tower; None for nothing.

        The tokens are the tower's own, leading ones included, in their order.
        """
        return None

    def inner_norm(self, x: Tensor) -> Tensor:
        """The norm of the heads' joined output."""
        return x

    def output(self, x: Tensor) -> Tensor:
        """The heads' joined output -> what is added to the row (output projection, layer scale)."""

    def post_norm1(self, x: Tensor) -> Tensor:
        """The norm of the row that attention was added to."""
        return x

    def norm2(self, x: Tensor) -> Tensor:
        """The norm before the MLP."""

    def mlp(self, x: Tensor) -> Tensor:
        """The MLP and its layer scale."""

    def mlp_maps(self) -> MlpMaps | None:
        """The MLP in two maps; None of an MLP that is gated or whose kind is not known."""
        return None

    def post_norm2(self, x: Tensor) -> Tensor:
        """The norm of the row that the MLP was added to."""
        return x
