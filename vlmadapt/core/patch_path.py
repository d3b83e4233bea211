"""Integrated gradients (Sundararajan et al., ICML 2017) of a score with respect to the patches of one image.

    contribution of patch i = (x_i - m) . mean over a in (0, 1) of  d score / d x_i  at  m + a (x - m)

x are the patches as they enter a block, m is their mean. Together the contributions are the score of the image less
that of an image whose patches are all alike there, up to the error of the mean over few points of the path.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vlmadapt.core.sequences import Sequences, cut
from vlmadapt.core.token_map import PATCHES


class PatchPath:
    """The path that an image's patches take before block `layer`, in every pass of the image tower.

    A batch is one image B times, and is moved to B points of the path. The graph begins there, whatever the method's
    hooks do before or after; the tokens between patches, CLS and injected ones, stay what they are.

    Attributes:
        layer: the block, counted from 0.
        complete: False once a pass ran without gradients, so that what a score owes to it is not seen.
    """

    def __init__(self, layer: int):
        self.layer = layer
        self.complete = True
        self._passes: list[tuple[Tensor, Tensor]] = []

    def enter(self, x: Sequences) -> Sequences:
        """Tokens of images (B, N, T, width), which have no prefix, with the patches at the points of the path."""
        if not torch.is_grad_enabled():
            self.complete = False
            return x
        tokens, span = x.whole(), x.map.spans[PATCHES]
        before, patches, after = cut(tokens, 2, span.start, span.start + span.length)
        patches = patches.detach()
        mean = patches.mean(dim=2, keepdim=True)
        steps = (torch.arange(len(tokens), device=tokens.device, dtype=tokens.dtype) + 0.5) / len(tokens)
        moved = (mean + steps[:, None, None, None] * (patches - mean)).requires_grad_()
        self._passes.append((moved, patches - mean))
        return Sequences(x.prefix, torch.cat([before, moved, after], dim=2), x.map)

    def contributions(self, scores: Tensor) -> Tensor | None:
        """What each patch adds (patches,) to a score, from its values (B,) on the path; None if these have no graph."""
        if not (self._passes and scores.requires_grad):
            return None
        gradients = torch.autograd.grad(scores.mean(), [moved for moved, _ in self._passes], allow_unused=True)
        found = [
            (gradient * length).float().sum(dim=(0, 1, 3))
            for (_, length), gradient in zip(self._passes, gradients, strict=True)
            if gradient is not None
        ]
        return torch.stack(found).sum(dim=0) if found else None
