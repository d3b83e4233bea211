"""AlignedNorm (ICML 2026)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vlmadapt.plugin import IMAGE, Backbone, DataError, ForwardPass, Hook, LossTerm, Task, head
from vlmadapt_mmrl.mmrl import REPRESENTATION
from vlmadapt_mmrl.mmrlpp import MMRLpp, MMRLppConfig


@dataclass
class AlignedNormConfig(MMRLppConfig):
    """Options of AlignedNorm, in addition to those of MMRL++.

    Args:
        routing: fused scores for seen and unseen classes alike, as published; MMRL's split, or the class branch alone.
        final_norm: weight of the distance between the lengths of the two image features before normalisation.
        sequence_norm: weight of the distance between the lengths of class token and representation tokens in the
            listed image blocks.
    """

    routing: Literal["split", "class", "fused"] = "fused"
    final_norm: float = 0.1
    sequence_norm: float = 0.1


class AlignedNorm(MMRLpp):
    """MMRL++ whose representation tokens are as long as the class token, with one inference path for all classes.

    To MMRL++'s loss it adds two terms. With f_c and f_r the image features of both branches before normalisation, and
    with c_l and r_{l,k} the lengths of the class token and of representation token k after listed image block l,

        final norm:     mean_b | |f_r| - sg |f_c| |
        sequence norm:  mean_{l,k} | mean_b r_{l,k} - sg mean_b c_l |

    where sg stops the gradient and b runs over the batch. Seen and unseen classes are answered by MMRL's fused logits.
    Official code (QByteM/AlignedNorm) averages lengths over the batch before it takes the distance, counts the last
    listed block although its tokens are not replaced any more, and computes two more norm terms (after the last norm,
    and on attention) that it logs and never adds; they are left out. Default weights are those of a port
    (Yejiaxuan/AlignedNorm-Jittor), since the authors' configuration files are not published.
    """

    Config = AlignedNormConfig
    api_version = 2
    paper = "AlignedNorm, ICML 2026"
    whole_batch = True  # lengths are averaged over the batch

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create what MMRL++ has."""
        if not self.config.image_tokens:
            raise DataError("AlignedNorm compares image tokens; without image_tokens there is nothing to align.")
        super().build(backbone, task)

    def hooks(self) -> Iterable[Hook]:
        """MMRL++'s, and both kinds of tokens as each listed image block leaves them."""
        yield from super().hooks()
        for layer in self.image_layers():
            yield head(IMAGE, f"class {layer}", after=layer)
            yield head(IMAGE, f"tokens {layer}", read=REPRESENTATION, after=layer)

    def image_layers(self) -> list[int]:
        """Listed blocks of the image tower, from 0."""
        return [layer for layer in self.layers if layer < self.depths[IMAGE]]

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """MMRL++'s terms and both norm terms."""
        yield from super().losses(fwd)
        c = self.config
        yield LossTerm("final norm", c.final_norm, self.final_distance(fwd))
        yield LossTerm("sequence norm", c.sequence_norm, self.sequence_distance(fwd))

    def final_distance(self, fwd: ForwardPass) -> Tensor:
        """Mean distance of the lengths of both image features, a scalar."""
        representation, pooled = (_length(fwd.features(IMAGE, name)) for name in (REPRESENTATION, "pooled"))
        return (representation - pooled.detach()).abs().mean()

    def sequence_distance(self, fwd: ForwardPass) -> Tensor:
        """Mean distance of the tokens' lengths, averaged over the batch first, over listed blocks; a scalar."""
        distances = []
        for layer in self.image_layers():
            tokens = _length(fwd.features(IMAGE, f"tokens {layer}")).mean(0)  # (K,)
            class_token = _length(fwd.features(IMAGE, f"class {layer}")).mean(0)  # (1,)
            distances.append((tokens - class_token.detach()).abs())
        return torch.stack(distances).mean()


def _length(vectors: Tensor) -> Tensor:
    """L2 norms of vectors (..., width), in float32 or, where they are float64, in that."""
    return torch.linalg.vector_norm(vectors if vectors.dtype == torch.float64 else vectors.float(), dim=-1)
