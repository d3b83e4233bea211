"""Token ids of class lists: templates written for each class name, ready for a text tower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vlmadapt.core.backbone import TextTower
from vlmadapt.core.cost import prefix_cost
from vlmadapt.core.injection import CONTEXT_SPAN, context_span
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.sequences import Sequences
from vlmadapt.core.templates import Template
from vlmadapt.core.token_map import WORDS, Span, TokenMap, last_needed


@dataclass(frozen=True, eq=False)
class ClassTexts:
    """The texts of a class list, written with one template.

    Attributes:
        ids: (classes, T) token ids on the tower's device, truncated as far as the result stays exact.
        map: positions of the pooled token, the learned vectors and the shared prefix.
    """

    ids: Tensor
    map: TokenMap

    @classmethod
    def write(
        cls, template: Template, names: Sequence[str], tower: TextTower, optimizations: Optimizations
    ) -> ClassTexts:
        """Tokenise a template for each class name.

        Raises:
            DataError: see `Template.write`.
        """
        written = template.write(names, tower)
        classes = len(names)
        padding = tower.padding(written.ids)
        length, prefix_len = max(written.ids.shape[1], int(written.end.max()) + 1), 0
        needed = last_needed(written.end, padding, tower.causal)
        if optimizations.truncate and needed is not None:
            length = int(needed.max()) + 1
        if optimizations.shared_prefix and tower.causal:
            same = (written.ids == written.ids[:1]).all(dim=0).int().cumprod(dim=0).sum()
            prefix_len = min(int(same), int(written.end.min()))
            if (classes - 1) * prefix_len < prefix_cost(tower.device.type):
                prefix_len = 0
        spans = {CONTEXT_SPAN: context_span(written.context)} if written.context.numel() else {}
        padding = None if padding is None else padding[:, :length]
        weights = None
        if tower.pooled:
            assert padding is not None
            spans[WORDS] = Span.scattered(torch.arange(length).expand(classes, -1))
            weights = ~padding / (~padding).sum(dim=1, keepdim=True).double()
        token_map = TokenMap(
            rows=classes,
            prefix_len=prefix_len,
            length=length,
            pool=written.end,
            spans=spans,
            pooled=tower.pooled,
            weights=weights,
            padding=padding,
        )
        return cls(written.ids[:, :length].to(tower.device), token_map)

    def embed(self, tower: TextTower, start: int, stop: int) -> Sequences:
        """Embedded sequences of the classes `start` to `stop`."""
        tokens = tower.embed(self.ids[start:stop])  # (n, T, width)
        return Sequences.of(tokens[None], self.map.select(start, stop))
