"""Text transformers of the package `transformers`: CLIP's and SigLIP's own, BERT, RoBERTa, XLM-R, NLLB, mT5.

They are the text towers of checkpoints of `transformers`, and those that open_clip wraps in its `HFTextEncoder`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from vlmadapt.core.backbone.blocks import views
from vlmadapt.core.backbone.projection import LinearProjection, joint_width, linear_projection
from vlmadapt.core.backbone.transformers_blocks import MT5Layer

BERT = {"BertModel", "RobertaModel", "XLMRobertaModel", "AltRobertaModel", "ChineseCLIPTextModel"}
M2M100 = {"M2M100Encoder"}
MT5 = {"MT5Stack"}


class TransformersText(ABC):
    """What these towers have in common; `TextTransformer` says what each part does.

    Args:
        trunk: the transformer, without what follows its blocks.
        layers: its blocks.
        norm: norm of each token after them.
        projection: modules that map the pooled token to the joint space, in order.
        pool: which token is pooled.
        pad: id of padding that no token attends to; None in a tower without a mask for padding.

    Attributes:
        pad: as given.
    """

    causal = False
    eos: int | None = None

    def __init__(
        self, trunk: Any, layers: Any, norm: nn.Module, projection: tuple[nn.Module, ...], pool: str, pad: int | None
    ):
        self._trunk = trunk
        self._norm = norm
        self._projection = projection
        self.pad = pad
        self.pool = pool
        self.family = type(trunk).__name__
        self.blocks = views(layers) or ()
        self.context, self.width = map(int, self._places.shape)
        self.joint = joint_width(self.width, *projection)

    @property
    def linear(self) -> LinearProjection | None:
        return linear_projection(self._places, *self._projection)

    @property
    @abstractmethod
    def _places(self) -> Tensor:
        """Embeddings (context, width) of the positions."""

    @abstractmethod
    def words(self, ids: Tensor) -> Tensor: ...

    def positions(self, at: Tensor | slice) -> Tensor:
        return self._places[at]

    def first_norm(self, tokens: Tensor) -> Tensor:
        return tokens

    def norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self._norm(tokens)
        return normed

    def project(self, tokens: Tensor) -> Tensor:
        for module in self._projection:
            tokens = module(tokens)
        return tokens

    def appended(self, texts: int) -> Tensor | None:
        return None

    def padding(self, ids: Tensor) -> Tensor | None:
        return None if self.pad is None else ids.eq(self.pad)


class ClipText(TransformersText):
    """CLIP's causal text transformer, which pools the end of text, and SigLIP's, which pools the last token."""

    @property
    def _places(self) -> Tensor:
        weight: Tensor = self._trunk.embeddings.position_embedding.weight
        return weight

    def words(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self._trunk.embeddings.token_embedding(ids)
        return embedded


class BertText(TransformersText):
    """BERT, RoBERTa and XLM-R, whose words pass a norm together with their positions and the type of the text."""

    @property
    def _places(self) -> Tensor:
        # RoBERTa counts positions from the one after its padding's.
        padding = getattr(self._trunk.embeddings, "padding_idx", -1)
        places: Tensor = self._trunk.embeddings.position_embeddings.weight[padding + 1 :]
        return places

    def words(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self._trunk.embeddings.word_embeddings(ids)
        return embedded

    def positions(self, at: Tensor | slice) -> Tensor:
        return self._places[at] + self._trunk.embeddings.token_type_embeddings.weight[0]

    def first_norm(self, tokens: Tensor) -> Tensor:
        normed: Tensor = self._trunk.embeddings.LayerNorm(tokens)
        return normed


class M2M100Text(TransformersText):
    """The encoder of M2M-100 and NLLB, with sines and cosines for positions."""

    @property
    def _places(self) -> Tensor:
        places: Tensor = self._trunk.embed_positions.weights[self._trunk.padding_idx + 1 :]
        return places

    def words(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self._trunk.embed_tokens(ids)
        return embedded


class MT5Text(TransformersText):
    """The encoder of mT5, whose positions are relative: attention adds them to its scores, words get none."""

    def __init__(self, trunk: Any, *rest: Any):
        super().__init__(trunk, *rest)
        for block in self.blocks:
            assert isinstance(block, MT5Layer)
            block.positions = trunk.block[0].layer[0].SelfAttention
        self.context = 0

    @property
    def _places(self) -> Tensor:
        return self._trunk.embed_tokens.weight.new_zeros(1, self._trunk.config.d_model)

    def words(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self._trunk.embed_tokens(ids)
        return embedded

    def positions(self, at: Tensor | slice) -> Tensor:
        return self._places


def wrapped_encoder(text: Any) -> TransformersText | None:
    """The transformer in open_clip's `HFTextEncoder`, or None where its kind or its pooling is not known."""
    trunk, pooler = text.transformer, type(text.pooler).__name__
    kind, pad = type(trunk).__name__, text.config.pad_token_id
    pool = {"MeanPooler": "mean", "ClsPooler": "first", "ClsLastHiddenStatePooler": "first"}.get(pooler)
    if pool is None:
        return None
    if kind in BERT:
        own = trunk.pooler if pooler == "ClsPooler" and text.pooler.use_pooler_output else None
        head = () if own is None else (own.dense, own.activation)
        return _open(BertText(trunk, _layers(trunk), nn.Identity(), (*head, text.proj), pool, pad))
    if kind in M2M100 and pool == "first":
        return _open(M2M100Text(trunk, trunk.layers, trunk.layer_norm, (text.proj,), pool, pad))
    if kind in MT5 and _heads_fill_the_width(trunk.config):
        return _open(MT5Text(trunk, trunk.block, trunk.final_layer_norm, (text.proj,), pool, pad))
    return None


def clip_text(model: Any) -> TransformersText:
    """The text transformer of a `CLIPModel`."""
    trunk = model.text_model
    text = ClipText(trunk, trunk.encoder.layers, trunk.final_layer_norm, (model.text_projection,), "eos", None)
    # Checkpoints made before the id was stored say 2, for which the tower takes the largest id.
    text.causal, text.eos = True, trunk.eos_token_id
    text.pool = "argmax" if text.eos == 2 else "eos"
    return text


def siglip_text(model: Any) -> TransformersText:
    """The text transformer of a `SiglipModel`, which sees padding and pools the last token."""
    trunk = model.text_model
    return ClipText(trunk, trunk.encoder.layers, trunk.final_layer_norm, (trunk.head,), "last", None)


def altclip_text(model: Any) -> TransformersText:
    """The text transformer of an `AltCLIPModel`: XLM-R with a norm and a linear map after it."""
    text = model.text_model
    projection, pad = (text.transformation, model.text_projection), text.config.pad_token_id
    return BertText(text.roberta, _layers(text.roberta), text.pre_LN, projection, "first", pad)


def chinese_clip_text(model: Any) -> TransformersText:
    """The text transformer of a `ChineseCLIPModel`: BERT."""
    trunk = model.text_model
    projection, pad = (model.text_projection,), trunk.config.pad_token_id
    return BertText(trunk, _layers(trunk), nn.Identity(), projection, "first", pad)


def _heads_fill_the_width(config: Any) -> bool:
    """Whether the heads of an mT5 together are as wide as its tokens, as the queries of a view are."""
    return bool(config.num_heads * config.d_kv == config.d_model)


def _layers(bert: Any) -> Any:
    """The blocks of a BERT, which models and versions name differently."""
    return bert.encoder.layer if hasattr(bert.encoder, "layer") else bert.encoder.layers


def _open(text: TransformersText) -> TransformersText | None:
    return text if text.blocks else None
