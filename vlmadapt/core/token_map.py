"""Token positions in a batch of sequences, known on the host so that no step has to read them from the device.

    position    0        1 .. k      k+1 ..            pool     pool+1 ..    appended ..
    holds       start    injected    template, name    EOT      padding      injected at the end

A map is immutable. Changing it (inserting, appending, splitting the prefix) returns another map, which is cached: the
same change of the same map returns the same object, with the index tensors and masks already made for it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

LEADING, PATCHES = "leading tokens", "patches"
"""Spans of an image's own tokens."""

EVERYONE = "everyone"
"""What a span is hidden from if no token may attend to it."""

WORDS = "words"
"""Span of a text's own tokens, padding included."""


@dataclass(frozen=True, eq=False)
class Span:
    """Positions of a group of tokens: contiguous from `start` in every row, or at `positions` (rows, n) on the CPU.

    Attributes:
        start: the first position in any row.
        length: number of tokens in each row.
        positions: where they differ by row or are not contiguous.
    """

    start: int
    length: int
    positions: Tensor | None = None

    @classmethod
    def scattered(cls, positions: Tensor) -> Span:
        """The span at positions (rows, n)."""
        return cls(int(positions.min()), positions.shape[1], positions)

    @property
    def contiguous(self) -> slice:
        """The positions of a span that is contiguous."""
        assert self.positions is None
        return slice(self.start, self.start + self.length)

    def shifted(self, at: int, by: int) -> Span:
        """The span after inserting `by` tokens before position `at`."""
        if self.positions is not None:
            return Span.scattered(torch.where(self.positions >= at, self.positions + by, self.positions))
        return replace(self, start=self.start + by) if self.start >= at else self

    def select(self, start: int, stop: int) -> Span:
        """The span in the rows `start` to `stop`."""
        return self if self.positions is None else Span.scattered(self.positions[start:stop])


@dataclass(frozen=True, eq=False)
class TokenMap:
    """Positions in N sequences of T tokens, of which the first P are the same in all of them.

    Attributes:
        rows: N.
        prefix_len: P.
        length: T.
        pool: (N,) position of the token that the tower pools, on the CPU; None in a tower that pools its first token.
        spans: named groups of tokens.
        hidden: for spans that some tokens may not attend to, the names of the spans of these tokens, or `EVERYONE`.
        inserted: names of spans that were inserted or appended; all other tokens are the tower's own.
        appended: position of the first token appended after the padding, None if there is none.
        pooled: names of the spans that the tower pools together; empty if it pools one token.
        weights: (N, n) weight of each token that the tower pools together, on the CPU; None where they count alike.
        padding: (N, T) tokens that no token may attend to, on the CPU; None in towers without a mask for padding.
    """

    rows: int
    prefix_len: int
    length: int
    pool: Tensor | None = None
    spans: Mapping[str, Span] = field(default_factory=dict)
    hidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inserted: frozenset[str] = frozenset()
    appended: int | None = None
    pooled: tuple[str, ...] = ()
    weights: Tensor | None = None
    padding: Tensor | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """A value derived from this map, made at most once; tensors made here may enter any later graph."""
        if key not in self._made:
            with torch.inference_mode(False), torch.no_grad():
                self._made[key] = make()
        return self._made[key]

    def index(self, name: Hashable, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        """A tensor derived from this map, made at most once for each device."""
        return self.once((name, device), lambda: make().to(device))

    def insert(self, at: int, n: int, name: str, *, hidden: tuple[str, ...], shared: bool, rows: int) -> TokenMap:
        """The map after inserting `n` tokens before position `at`, in the prefix if `shared`."""

        def make() -> TokenMap:
            spans = {key: span.shifted(at, n) for key, span in self.spans.items()} | {name: Span(at, n)}
            return replace(
                self,
                rows=rows,
                prefix_len=self.prefix_len + n if shared else self.prefix_len,
                length=self.length + n,
                pool=None if self.pool is None else torch.where(self.pool >= at, self.pool + n, self.pool),
                spans=spans,
                hidden={**self.hidden, name: hidden} if hidden else self.hidden,
                inserted=self.inserted | {name},
                appended=self.appended if self.appended is None or self.appended < at else self.appended + n,
                padding=self._padding_with(at, n),
            )

        return self.once(("insert", at, n, name, hidden, shared, rows), make)

    def append(self, n: int, name: str, *, hidden: tuple[str, ...], rows: int) -> TokenMap:
        """The map after appending `n` tokens."""

        def make() -> TokenMap:
            return replace(
                self,
                rows=rows,
                length=self.length + n,
                spans={**self.spans, name: Span(self.length, n)},
                hidden={**self.hidden, name: hidden} if hidden else self.hidden,
                inserted=self.inserted | {name},
                appended=self.length if self.appended is None else self.appended,
                padding=self._padding_with(self.length, n),
            )

        return self.once(("append", n, name, hidden, rows), make)

    def name_span(self, name: str, start: int, length: int) -> TokenMap:
        """The same positions with a name for some of them."""

        def make() -> TokenMap:
            return replace(self, spans={**self.spans, name: Span(start, length)})

        return self.once(("name", name, start, length), make)

    def alias(self, name: str, known: str) -> TokenMap:
        """The same positions with a second name for a span."""
        return self.once(("alias", name, known), lambda: replace(self, spans={**self.spans, name: self.spans[known]}))

    def split_prefix(self, position: int) -> TokenMap:
        """The map with only the tokens before `position` in the prefix."""
        return self.once(("split", position), lambda: replace(self, prefix_len=min(position, self.prefix_len)))

    def with_rows(self, rows: int) -> TokenMap:
        """The map with one sequence expanded to `rows`."""
        return self if rows == self.rows else self.once(("rows", rows), lambda: replace(self, rows=rows))

    def select(self, start: int, stop: int) -> TokenMap:
        """The map of the sequences `start` to `stop`."""
        if (start, stop) == (0, self.rows):
            return self

        def make() -> TokenMap:
            pool = None if self.pool is None else self.pool[start:stop]
            spans = {name: span.select(start, stop) for name, span in self.spans.items()}
            weights = None if self.weights is None else self.weights[start:stop]
            padding = None if self.padding is None else self.padding[start:stop]
            return replace(self, rows=stop - start, pool=pool, spans=spans, weights=weights, padding=padding)

        return self.once(("select", start, stop), make)

    def last_needed(self, causal: bool) -> list[int]:
        """Position of the last token of each row, of those before `appended`, that can matter; empty where all can."""
        if self.pool is None:
            return []
        last = last_needed(self.pool, None if self.padding is None else self.padding[:, : self.appended], causal)
        return [] if last is None else last.tolist()

    def _padding_with(self, at: int, n: int) -> Tensor | None:
        """The padding after `n` tokens entered before position `at`; they are none."""
        if self.padding is None:
            return None
        entered = self.padding.new_zeros(len(self.padding), n)
        return torch.cat([self.padding[:, :at], entered, self.padding[:, at:]], dim=1)

    @property
    def own_length(self) -> int:
        """Number of the tower's own tokens."""
        return self.length - sum(self.spans[name].length for name in self.inserted)

    @property
    def places(self) -> Tensor:
        """(T,) 1 + the number of each token among the tower's own, 0 for inserted tokens."""
        own = torch.ones(self.length, dtype=torch.long)
        for name in self.inserted:
            span = self.spans[name]
            own[span.start : span.start + span.length] = 0
        return own.cumsum(0) * own

    def patch_index(self, positions: Tensor) -> Tensor:
        """1 + the number of the patch at each position, 0 where another token stands."""
        patches = self.spans[PATCHES]
        number = positions - patches.start + 1
        return torch.where((number > 0) & (number <= patches.length), number, 0)


def last_needed(pool: Tensor, padding: Tensor | None, causal: bool) -> Tensor | None:
    """Position (N,) of the last token of each text that can matter; None where all can.

    In a causal tower that is the pooled token (N,), in one with a mask for padding (N, T) the last that is none.
    """
    if causal or padding is None:
        return pool if causal else None
    return torch.maximum(pool, (~padding * torch.arange(padding.shape[1])).amax(dim=1))


@cache
def image_map(length: int, leading: int = 1, pooled: tuple[str, ...] = ()) -> TokenMap:
    """The map of an image's `length` tokens; images of a batch are groups, each with one sequence.

    Args:
        length: number of tokens.
        leading: how many of them stand before the patches (CLS, registers).
        pooled: spans that the tower pools together, of `LEADING` and `PATCHES`; by default it pools its first token.
    """
    spans = {LEADING: Span(0, leading), PATCHES: Span(leading, length - leading)}
    return TokenMap(rows=1, prefix_len=0, length=length, spans=spans, pooled=pooled)
