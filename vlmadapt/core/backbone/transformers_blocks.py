"""Views of blocks of the package `transformers`: CLIP's and SigLIP's, BERT's and RoBERTa's, M2M-100's, mT5's.

The package is not imported here: a block that comes from it is recognised by the name of its class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from vlmadapt.core.backbone.block_parts import BlockParts, MlpMaps


class SeparateMaps(BlockParts):
    """Query, key and value as three linear maps."""

    maps: tuple[nn.Module, nn.Module, nn.Module]

    def query(self, x: Tensor) -> Tensor:
        return self.maps[0](x)

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.maps[1](x), self.maps[2](x)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query(x), *self.key_value(x)


class ClipLayer(SeparateMaps):
    """`CLIPEncoderLayer` and its like: pre-norm."""

    def __init__(self, block: Any):
        attention = block.self_attn
        self._block = self.module = block
        self._attention = attention
        self.maps = attention.q_proj, attention.k_proj, attention.v_proj
        self.heads: int = attention.num_heads
        self.norms: tuple[nn.Module, nn.Module] = (block.layer_norm1, block.layer_norm2)

    def norm1(self, x: Tensor) -> Tensor:
        return self.norms[0](x)

    def output(self, x: Tensor) -> Tensor:
        return self._attention.out_proj(x)

    def norm2(self, x: Tensor) -> Tensor:
        return self.norms[1](x)

    def mlp(self, x: Tensor) -> Tensor:
        return self._block.mlp(x)

    def mlp_maps(self) -> MlpMaps:
        mlp = self._block.mlp
        return MlpMaps(mlp.fc1, lambda hidden: mlp.fc2(mlp.activation_fn(hidden)), mlp.fc1.out_features)


class M2M100Layer(ClipLayer):
    """`M2M100EncoderLayer` (NLLB): pre-norm, with the MLP's maps on the block itself."""

    def __init__(self, block: Any):
        attention = block.self_attn
        self._block = self.module = block
        self._attention = attention
        self.maps = attention.q_proj, attention.k_proj, attention.v_proj
        self.heads = attention.num_heads
        self.norms = (block.self_attn_layer_norm, block.final_layer_norm)

    def mlp(self, x: Tensor) -> Tensor:
        return self._block.fc2(self._block.activation_fn(self._block.fc1(x)))

    def mlp_maps(self) -> MlpMaps:
        block = self._block
        return MlpMaps(block.fc1, lambda hidden: block.fc2(block.activation_fn(hidden)), block.fc1.out_features)


class BertLayer(SeparateMaps):
    """`BertLayer` and its like: post-norm."""

    post_norm = True

    def __init__(self, block: Any):
        attention = block.attention.self
        self._block = self.module = block
        self._attention = block.attention
        self.maps = attention.query, attention.key, attention.value
        self.heads: int = attention.num_attention_heads
        self.norms: tuple[nn.Module, nn.Module] = (block.attention.output.LayerNorm, block.output.LayerNorm)

    def norm1(self, x: Tensor) -> Tensor:
        return x

    def output(self, x: Tensor) -> Tensor:
        return self._attention.output.dense(x)

    def post_norm1(self, x: Tensor) -> Tensor:
        return self.norms[0](x)

    def norm2(self, x: Tensor) -> Tensor:
        return x

    def mlp(self, x: Tensor) -> Tensor:
        return self._block.output.dense(self._block.intermediate(x))

    def mlp_maps(self) -> MlpMaps:
        inner, outer = self._block.intermediate, self._block.output.dense
        return MlpMaps(inner.dense, lambda hidden: outer(inner.intermediate_act_fn(hidden)), inner.dense.out_features)

    def post_norm2(self, x: Tensor) -> Tensor:
        return self.norms[1](x)


class MT5Layer(SeparateMaps):
    """`MT5Block` of an encoder: pre-norm, scores without a scale, relative positions that the first block has for all.

    Attributes:
        positions: the attention that makes them.
    """

    scale = 1.0
    in_float16 = False  # transformers clips them there, which would be another model

    def __init__(self, block: Any):
        attention, last = block.layer[0], block.layer[-1]
        self._attention = self.positions = attention.SelfAttention
        self._mlp = last.DenseReluDense
        self.module = block
        self.maps = self._attention.q, self._attention.k, self._attention.v
        self.heads: int = self._attention.n_heads
        self.norms: tuple[nn.Module, nn.Module] = (attention.layer_norm, last.layer_norm)

    def position_bias(self, length: int) -> Tensor | None:
        bias: Tensor = self.positions.compute_bias(length, length)[0]
        return bias

    def norm1(self, x: Tensor) -> Tensor:
        return self.norms[0](x)

    def output(self, x: Tensor) -> Tensor:
        return self._attention.o(x)

    def norm2(self, x: Tensor) -> Tensor:
        return self.norms[1](x)

    def mlp(self, x: Tensor) -> Tensor:
        return self._mlp(x)


VIEWS: dict[str, Callable[[Any], BlockParts]] = {
    "CLIPEncoderLayer": ClipLayer,
    "SiglipEncoderLayer": ClipLayer,
    "Siglip2EncoderLayer": ClipLayer,
    "AltCLIPEncoderLayer": ClipLayer,
    "ChineseCLIPVisionLayer": ClipLayer,
    "M2M100EncoderLayer": M2M100Layer,
    "MT5Block": MT5Layer,
    "BertLayer": BertLayer,
    "RobertaLayer": BertLayer,
    "XLMRobertaLayer": BertLayer,
    "AltRobertaLayer": BertLayer,
    "ChineseCLIPTextLayer": BertLayer,
}
"""By the name of the block's class."""


def transformers_view(block: nn.Module) -> BlockParts | None:
    """The view of a block of `transformers`, or None where it is not one of those above."""
    view = VIEWS.get(type(block).__name__)
    return view(block) if view is not None and type(block).__module__.startswith("transformers.") else None
