"""CLIP-LoRA (Zanella & Ben Ayed, CVPR Workshops 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from vlmadapt.plugin import (
    ATTENTION,
    IMAGE,
    KEY,
    QUERY,
    TEXT,
    VALUE,
    Backbone,
    DataError,
    Hook,
    Method,
    Recipe,
    Side,
    Task,
    adapt,
)

SITES = {"q": QUERY, "k": KEY, "v": VALUE, "o": ATTENTION}
# The ranges of blocks that the published code offers, in twelfths of the depth.
POSITIONS = {
    "all": (0, 12),
    "half-bottom": (0, 6),
    "half-up": (6, 12),
    "bottom": (0, 4),
    "mid": (4, 8),
    "up": (8, 12),
    "top3": (9, 12),
    "top2": (10, 12),
    "top1": (11, 12),
}


@dataclass
class CLIPLoRAConfig:
    """Options of CLIP-LoRA.

    Args:
        rank: rank r of each update.
        alpha: scale of the updates, which are multiplied by alpha / sqrt(r).
        dropout: probability of dropping an element of an update's input in training.
        matrices: attention matrices to update: queries, keys, values, output projection.
        position: range of blocks to update, as a fraction of the depth ('up' is the upper third, 'top2' the upper
            sixth); in towers of twelve blocks these are the published ranges.
        encoder: towers to update.
    """

    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    matrices: list[Literal["q", "k", "v", "o"]] = field(default_factory=lambda: ["q", "k", "v"])
    position: Literal["all", "half-bottom", "half-up", "bottom", "mid", "up", "top3", "top2", "top1"] = "all"
    encoder: Literal["both", "text", "image"] = "both"


class LoRA(nn.Module):
    """A low-rank update x -> scale B A drop(x), initialised to zero."""

    def __init__(self, width: int, rank: int, scale: float, dropout: float):
        super().__init__()
        self.scale = scale
        self.drop = nn.Dropout(dropout)
        # The default initialisation of nn.Linear is the official one of A: Kaiming-uniform with a = sqrt(5).
        self.a = nn.Linear(width, rank, bias=False)
        self.b = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., width) -> (..., width)."""
        return self.scale * self.b(self.a(self.drop(x)))


class CLIPLoRA(Method):
    """Low-rank updates of the attention matrices in both towers, with one setting for all data sets.

    A linear map W x + b of the attention becomes `W x + b + gamma B A drop(x)` with A (r, width), B (width, r) and
    gamma = alpha / sqrt(r), where LoRA has alpha / r. The loss is the cross entropy of CLIP's logits. Official code
    (MaxZanella/CLIP-LoRA) uses 100 for CLIP's scale, which is the same for OpenAI's weights, and with dropout 0 it
    takes a code path whose gradients below an adapted map are wrong; here they are correct for every dropout.

    Each update draws its own dropout mask. With `--plan planned`, tokens that all classes share are computed once, so
    classes see the same mask there; the published code draws a mask per class. The expected gradient is the same.
    """

    Config = CLIPLoRAConfig
    api_version = 2
    # 500 steps per shot on every data set; `epochs` is the equivalent for 100 classes.
    recipe = Recipe(
        optimizer="adamw",
        lr=2e-4,
        steps_per_shot=500,
        epochs=160,
        batch_size=32,
        weight_decay=1e-2,
        schedule="cosine-step",
        final_lr=1e-6,
        warmup_epochs=0,
    )
    paper = "Zanella & Ben Ayed, Low-Rank Few-Shot Adaptation of Vision-Language Models, CVPR Workshops 2024"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the updates of both towers, keyed by block (counted from 0) and matrix."""
        c = self.config
        if not c.matrices or not set(c.matrices) <= SITES.keys() or c.rank < 1:
            raise DataError(
                f"CLIP-LoRA updates some of q, k, v, o with rank 1 or more, not {c.matrices} with {c.rank}."
            )
        self.text = self.updates(backbone, TEXT)
        self.image = self.updates(backbone, IMAGE)

    def updates(self, backbone: Backbone, side: Side) -> nn.ModuleDict:
        """Updates of a tower, keyed by block and matrix; empty if `encoder` excludes it."""
        c, tower = self.config, backbone.tower(side)
        if c.encoder not in ("both", side):
            return nn.ModuleDict()
        start, stop = (share * tower.depth // 12 for share in POSITIONS[c.position])
        gamma = c.alpha / c.rank**0.5
        return nn.ModuleDict({
            str(layer): nn.ModuleDict({name: LoRA(tower.width, c.rank, gamma, c.dropout) for name in c.matrices})
            for layer in range(start, stop)
        })  # fmt: skip

    def hooks(self) -> Iterable[Hook]:
        """The updates as branches at q, k, v or the output projection of each block."""
        for side, blocks in ((TEXT, self.text), (IMAGE, self.image)):
            for layer, matrices in blocks.items():
                for name, update in matrices.named_children():
                    yield adapt(side, int(layer), update, SITES[name])
