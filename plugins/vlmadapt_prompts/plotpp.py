"""PLOT++ (Chen et al., ICLR 2023)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    END,
    IMAGE,
    TEXT,
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    Recipe,
    Task,
    Template,
    TokenizedTexts,
    Tokenizer,
    inject,
    per_variant,
    prompt,
    random_tokens,
    similarity,
)
from vlmadapt_prompts.transport import TransportMethod


@dataclass
class PLOTppConfig:
    """Options of PLOT++.

    Args:
        starts: texts before the class name that initialise the N contexts, one for each; the number of words of the
            first is the length of all contexts.
        image_sets: number M of sets of image tokens; each image is encoded once with each set.
        image_tokens: number of tokens in a set.
        stage: 'both' trains only the image tokens in the first half of the epochs and everything in the second half;
            'image' and 'joint' are one of these stages alone.
        pooled: when to add CLIP's ordinary logits of the mean features: in the image stage, as the published code does,
            always, or never.
        eps: weight of the entropy regularisation in the optimal transport.
        rounds: maximum number of Sinkhorn iterations.
        tolerance: mean change below which the iterations stop.
    """

    starts: list[str] = field(
        default_factory=lambda: ["a photo of a", "this is a photo", "this is picture of", "one picture of a"]
    )
    image_sets: int = 4
    image_tokens: int = 2
    stage: Literal["both", "image", "joint"] = "both"
    pooled: Literal["image", "always", "never"] = "image"
    eps: float = 0.1
    rounds: int = 100
    tolerance: float = 0.01


class PLOTpp(TransportMethod):
    """Prompt learning with optimal transport for ViTs: N prompts of a class, M prompted views of an image.

    Context k precedes the class name. Token set m follows the patches of view m; it enters before the first norm,
    without position, and is not replaced at later layers. With unit features f_m, w_ik, S_mk = f_m . w_ik and T the
    Sinkhorn plan for uniform marginals and the cost 1 - S, through which no gradient flows:

        z_i = s sum_mk T_mk S_mk

    and the loss is the cross entropy. First only the image tokens are trained, with s cos(mean_m f_m, mean_k w_ik)
    added to z, then both without it. Official code (CHENGY12/PLOT, plot-pp) does that in two runs, each with its own
    schedule. It replaces as many tokens of each start text as the first one has words, so a shorter start text loses
    tokens of the class name, and its context starts with end of text and padding at its end; this does too.
    """

    Config = PLOTppConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=400, cycles=2, batch_size=32)
    paper = "Chen et al., PLOT: Prompt Learning with Optimal Transport for Vision-Language Models, ICLR 2023"
    whole_batch = True

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create contexts (N, n, width), a buffer if only image tokens are trained, and token sets (M, n, width)."""
        c = self.config
        n = len(c.starts[0].split()) if c.starts else 0
        if not n:
            raise DataError("PLOT++ needs at least one start text, and the first needs at least one word.")
        text = backbone.text
        first = slice(text.leading, text.leading + n)
        context = torch.stack([text.embeddings(words)[first] for words in c.starts])
        if c.stage == "image":
            self.register_buffer("context", context)
        else:
            self.context = nn.Parameter(context)
        self.tokens = random_tokens(c.image_sets, c.image_tokens, backbone.image.width)
        self.templates = [LearnedFirstTokens(f"{words.strip()} {{}}.", count=n) for words in c.starts]
        self.image_stage: Tensor
        self.register_buffer("image_stage", torch.tensor(c.stage == "image"))
        self.image_only = c.stage == "image"  # the same for Python, which would have to wait for a device

    def hooks(self) -> Iterable[Hook]:
        """A prompt for each context and a view of the image for each token set."""
        yield prompt(*self.templates)
        context = self.context.detach() if self.image_only else self.context
        yield inject(TEXT, {EMBEDDING: per_variant(context)}, at=CONTEXT)
        yield inject(IMAGE, {EMBEDDING: per_variant(self.tokens)}, at=END)

    def similarities(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, classes, M, N) of the views' image features with the contexts' text features."""
        image, text = self._features(fwd)
        return torch.einsum("bmd,kcd->bcmk", F.normalize(image, dim=-1), F.normalize(text, dim=-1))

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Transported cosines (B, classes) times CLIP's scale, plus CLIP's ordinary logits as `pooled` says."""
        scores = self.transported(fwd)
        if self.config.pooled == "never" or (self.config.pooled == "image" and not self.image_only):
            return scores
        image, text = (F.normalize(f.mean(dim), dim=-1) for f, dim in zip(self._features(fwd), (1, 0), strict=True))
        return scores + fwd.scale * similarity(image, text)

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Set the stage of this epoch."""
        stage = self.config.stage
        self.image_only = stage == "image" or (stage == "both" and epoch < epochs // 2)
        self.image_stage.fill_(self.image_only)

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.image_only = bool(self.image_stage)

    def _features(self, fwd: ForwardPass) -> tuple[Tensor, Tensor]:
        """Image features (B, M, joint) and text features (N, classes, joint), not normalised."""
        image = fwd.features(IMAGE).reshape(len(fwd.images), len(self.tokens), -1)
        text = fwd.features(TEXT).reshape(len(self.context), len(fwd.names), -1)
        return image.float(), text.float()


@dataclass(frozen=True)
class LearnedFirstTokens(Template):
    """Template whose first `count` tokens are learned vectors, whatever words they replace.

    If fewer tokens precede the class name, the first tokens of the class name are replaced too.

    Attributes:
        count: number of learned vectors.
    """

    count: int = 0

    @property
    def learned(self) -> int:
        """Number of learned vectors."""
        return self.count

    def write(self, names: Sequence[str], text: Tokenizer) -> TokenizedTexts:
        """Tokenise the template for each class name.

        Raises:
            DataError: every prompt is shorter than `count` tokens.
        """
        tokenized = super().write(names, text)
        positions = text.leading + torch.arange(self.count)
        if positions[-1] > text.words_end(tokenized.ids).max():
            raise DataError(f"'{self.text}' is shorter than the {self.count} vectors that replace its first tokens.")
        return replace(tokenized, context=positions.expand(len(names), -1))
