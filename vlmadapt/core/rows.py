"""Token rows of a tower between two blocks, and the three things injection does to them: insert, replace, blend.

A row is cut in two. The `shared` part is a prefix that is the same for all classes (causal text towers only, possibly
empty); the `own` part differs. Both carry a leading dimension G of groups (images, or variants of a prompt), which is
1 where all groups are alike. Places count from the start of the whole row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Where a group of tokens stands: contiguous from `start` in every row, or at `places` (rows, n)."""

    start: int
    length: int
    places: Tensor | None = None

    def moved(self, at: int, by: int) -> Span:
        """The span after `by` tokens were inserted before place `at`."""
        if self.places is not None:
            return replace(self, places=torch.where(self.places >= at, self.places + by, self.places))
        return replace(self, start=self.start + by) if self.start >= at else self


@dataclass(frozen=True)
class Rows:
    """Rows of tokens.

    Attributes:
        shared: (G, P, width), P >= 0.
        own: (G, N, S, width), N rows (classes, or passes of an image).
        end: (N,) place of the token that is read, None in a tower that reads its leading token.
        spans: named groups of tokens.
        hidden: names of spans nobody may attend to.
        appended: place of the first token appended behind the row, None where there is none.
    """

    shared: Tensor
    own: Tensor
    end: Tensor | None
    spans: dict[str, Span]
    hidden: frozenset[str] = frozenset()
    appended: int | None = None

    @classmethod
    def of(cls, tokens: Tensor, end: Tensor | None, spans: dict[str, Span], shared: int = 0) -> Rows:
        """Rows from tokens (G, N, T, width), the first `shared` of which are alike in all N rows."""
        return cls(tokens[:, 0, :shared], tokens[:, :, shared:], end, spans)

    @property
    def prefix(self) -> int:
        """Length P of the shared part."""
        return self.shared.shape[1]

    @property
    def length(self) -> int:
        """Length of the whole row."""
        return self.prefix + self.own.shape[2]

    def insert(self, at: int, tokens: Tensor, name: str, *, hidden: bool = False) -> Rows:
        """Insert tokens (G|1, N|1, n, width) before place `at`.

        They join the shared part where they are the same for all rows and stand before its end.
        """
        n = tokens.shape[2]
        if tokens.shape[1] == 1 and 0 < at <= self.prefix:
            shared, fresh = _same_groups(self.shared, tokens[:, 0])
            rows = replace(self, shared=torch.cat([shared[:, :at], fresh, shared[:, at:]], dim=1))
        else:
            rows = self._own_from(at)
            own, fresh = _same_rows(rows.own, tokens)
            at_own = at - rows.prefix
            rows = replace(rows, own=torch.cat([own[:, :, :at_own], fresh, own[:, :, at_own:]], dim=2))
        spans = {key: span.moved(at, n) for key, span in rows.spans.items()}
        spans[name] = Span(at, n)
        end = None if rows.end is None else torch.where(rows.end >= at, rows.end + n, rows.end)
        hidden_names = rows.hidden | {name} if hidden else rows.hidden
        appended = rows.appended if rows.appended is None or rows.appended < at else rows.appended + n
        return replace(rows, end=end, spans=spans, hidden=hidden_names, appended=appended)

    def append(self, tokens: Tensor, name: str, *, hidden: bool = False) -> Rows:
        """Append tokens (G|1, N|1, n, width) behind the row."""
        first = self.length if self.appended is None else self.appended
        own_only = self._own_from(self.length)
        own, fresh = _same_rows(own_only.own, tokens)
        spans = {**self.spans, name: Span(self.length, tokens.shape[2])}
        return replace(
            own_only,
            own=torch.cat([own, fresh], dim=2),
            spans=spans,
            hidden=self.hidden | {name} if hidden else self.hidden,
            appended=first,
        )

    def named(self, name: str, start: int, length: int) -> Rows:
        """The same rows with a name for tokens that stand in them."""
        return replace(self, spans={**self.spans, name: Span(start, length)})

    def rewrite(self, name: str, tokens: Tensor, blend: float = 1.0) -> Rows:
        """Put `blend * tokens + (1 - blend) * old` in the place of a span."""
        span = self.spans[name]
        if span.places is not None:
            return self._scatter(span.places, tokens, blend)
        stop = span.start + span.length
        rows = self if tokens.shape[1] == 1 else self._own_from(span.start)
        if stop > rows.prefix > span.start:
            rows = rows._own_from(span.start)
        if stop <= rows.prefix:
            shared, fresh = _same_groups(rows.shared, tokens[:, 0])
            fresh = _blend(fresh, shared[:, span.start : stop], blend)
            return replace(rows, shared=torch.cat([shared[:, : span.start], fresh, shared[:, stop:]], dim=1))
        own, fresh = _same_rows(rows.own, tokens)
        start, stop = span.start - rows.prefix, stop - rows.prefix
        fresh = _blend(fresh, own[:, :, start:stop], blend)
        return replace(rows, own=torch.cat([own[:, :, :start], fresh, own[:, :, stop:]], dim=2))

    def read(self, name: str) -> Tensor:
        """Tokens (G, N|1, n, width) of a span."""
        span = self.spans[name]
        if span.places is not None:
            return _gather(self.whole(), span.places)
        stop = span.start + span.length
        if stop <= self.prefix:
            return self.shared[:, None, span.start : stop]
        rows = self._own_from(span.start)
        return rows.own[:, :, span.start - rows.prefix : stop - rows.prefix]

    def read_end(self) -> Tensor:
        """The token (G, N, 1, width) each row is read at."""
        if self.end is None:
            return self.whole()[:, :, :1]
        return _gather(self.own, (self.end - self.prefix)[:, None])

    def whole(self) -> Tensor:
        """All tokens (G, N, T, width)."""
        return self._own_from(0).own

    def detach(self) -> Rows:
        """The same rows without their graph."""
        return replace(self, shared=self.shared.detach(), own=self.own.detach())

    def rows(self, start: int, stop: int) -> Rows:
        """Only the rows `start` to `stop` of N."""
        spans = {
            name: span if span.places is None else replace(span, places=span.places[start:stop])
            for name, span in self.spans.items()
        }
        end = None if self.end is None else self.end[start:stop]
        return replace(self, own=self.own[:, start:stop], end=end, spans=spans)

    def _own_from(self, place: int) -> Rows:
        """The same rows with everything from `place` on held per row."""
        if place >= self.prefix:
            return self
        tail, own = _same_rows(self.shared[:, None, place:], self.own)
        return replace(self, shared=self.shared[:, :place], own=torch.cat([tail, own], dim=2))

    def _scatter(self, places: Tensor, tokens: Tensor, blend: float) -> Rows:
        rows = self._own_from(int(places.min()) if places.numel() else self.length)
        index = places - rows.prefix
        own, fresh = _same_rows(rows.own, tokens)
        fresh = _blend(fresh, _gather(own, index), blend)
        index = index[None, :, :, None].expand(own.shape[0], -1, -1, own.shape[3])
        return replace(rows, own=own.scatter(2, index, fresh.expand(own.shape[0], own.shape[1], -1, -1)))


def _blend(fresh: Tensor, old: Tensor, blend: float) -> Tensor:
    return fresh if blend == 1.0 else blend * fresh + (1.0 - blend) * old


def _gather(own: Tensor, places: Tensor) -> Tensor:
    """Tokens (G, N, n, width) at places (N, n) of the own part."""
    index = places[None, :, :, None].expand(own.shape[0], -1, -1, own.shape[3])
    return own.gather(2, index)


def _same_groups(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Expand the first dimension of both to the larger."""
    groups = max(a.shape[0], b.shape[0])
    return a.expand(groups, *a.shape[1:]), b.expand(groups, *b.shape[1:])


def _same_rows(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Expand the first two dimensions of both to the larger."""
    groups, rows = max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1])
    return a.expand(groups, rows, *a.shape[2:]), b.expand(groups, rows, *b.shape[2:])
