"""MAIL (NeurIPS 2025)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    AFTER_ATTENTION,
    AFTER_MLP,
    IMAGE,
    NORM1,
    NORM2,
    TEXT,
    Backbone,
    BackboneError,
    DataError,
    ForwardPass,
    Hook,
    ImageTower,
    LossTerm,
    Method,
    Recipe,
    Side,
    Task,
    TextTower,
    TrainedCopy,
    adapt,
    cosine_distance,
    head,
)

SITES = {"norm1": NORM1, "attention": AFTER_ATTENTION, "norm2": NORM2, "mlp": AFTER_MLP}
"""Where a block is adapted, by the names of the agents' lists."""
PUBLISHED_DEPTH = 12


@dataclass
class MAILConfig:
    """Options of MAIL.

    Args:
        rank: rank of the map from the scales of the text tower to those of the image tower.
        start: first block with agents, counted from 1.
        end: last block with agents; where it reaches the end of a tower, there are agents after its last norm and its
            projection too.
        coupled_start: first block whose image scales depend on the text scales.
        coupled_end: last block whose image scales do; treated at the end of the image tower as `end` is, 0 for none.
        projections: also train CLIP's two projections.
        image_loss: weight of the distance between tuned and frozen image features.
        text_loss: the same for text features.
        logits_loss: weight of the divergence of the tuned from the frozen class probabilities.
        published: take block 12 for the end of both towers, as the published code does, whatever their depth.
    """

    rank: int = 32
    start: int = 1
    end: int = 12
    coupled_start: int = 1
    coupled_end: int = 12
    projections: bool = True
    image_loss: float = 0.0
    text_loss: float = 0.0
    logits_loss: float = 0.0
    published: bool = False


class Agent(nn.Module):
    """Scale and shift per channel of one place in both towers; the image scale may depend on the text scale.

    With text scale t and image scale v, the image tower is scaled by v, or where coupled by v + t D U.

    Args:
        widths: width of the tokens by tower, of the towers that have an agent here.
        down: start value of D (text width, rank), None without coupling.
    """

    def __init__(self, widths: dict[Side, int], down: Tensor | None):
        super().__init__()
        self.scale = nn.ParameterDict({side.value: nn.Parameter(torch.ones(n)) for side, n in widths.items()})
        self.shift = nn.ParameterDict({side.value: nn.Parameter(torch.zeros(n)) for side, n in widths.items()})
        self.coupled = down is not None
        if down is not None:
            self.down = nn.Parameter(down.clone())
            self.up = nn.Parameter(torch.zeros(down.shape[1], widths[IMAGE]))

    def forward(self, side: Side, x: Tensor) -> Tensor:
        """Tokens or features (..., width) of a tower, scaled and shifted; unchanged where it has no agent here."""
        if side.value not in self.scale:
            return x
        scale = self.scale[side.value]
        if side is IMAGE and self.coupled:
            scale = scale + self.scale[TEXT.value] @ self.down @ self.up
        return x * scale + self.shift[side.value]


class MAIL(Method):
    """Per-channel scales and shifts at four places of every block of both towers, coupled between the towers.

    An agent maps a token x to x * a + b, channel by channel: after each norm, and after attention and MLP before they
    are added to the residual; after the last norm; and after the projection. With a text scale t and an image scale v,
    and D, U of low rank for each agent,

        a_text = t        a_image = v + t D U

    so that the text side reaches the image side and nothing goes the other way. Both projections of CLIP are trained
    too. The loss is the cross entropy, and as an option distances to the frozen features and the divergence from the
    frozen class probabilities, averaged over images and classes. At the start t = v = 1, b = 0 and U = 0, which is
    zero-shot CLIP.

    In official code (pSGAme/MAIL-for-Classification) the list named after attention acts after the MLP and vice versa;
    here lists are named after their places. It takes block 12 for the last of both towers, see `published`. It
    creates agents that are never used, which are missing here. The agents of all blocks start with the same D, here
    too. Weight decay pulls scales to 0, not to 1, and projections to 0. The product is with t, not with t - 1.
    """

    Config = MAILConfig
    api_version = 2
    recipe = Recipe(optimizer="adamw", lr=1.5e-5, epochs=10, batch_size=4, warmup_epochs=0, crop_scale=(0.5, 1.0))
    paper = "MAIL: Multi-Modal Interactive Agent Layer for Few-Shot UCDR and Beyond, NeurIPS 2025"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the agents, by place and block counted from 0, and the trained projections (width, joint)."""
        c = self.config
        if min(c.start, c.rank) < 1:
            raise DataError(f"start ({c.start}) and rank ({c.rank}) have to be 1 or more; blocks are counted from 1.")
        self.towers = {side: backbone.tower(side) for side in (TEXT, IMAGE)}
        for tower in self.towers.values():
            self.check(tower)
        down = self.start_of_coupling(backbone.text.width)
        depth = max(tower.depth for tower in self.towers.values())
        for place in SITES:
            blocks = {str(i - 1): self.agent(i, down) for i in range(c.start, min(c.end, depth) + 1)}
            self.register_module(place, nn.ModuleDict(blocks))
        self.last_norm = self.outer_agent({side: t.width for side, t in self.towers.items()})
        self.projected = self.outer_agent({side: t.joint for side, t in self.towers.items()})
        if c.projections:
            self.projections = nn.ModuleDict({side.value: projection_copy(t) for side, t in self.towers.items()})

    def check(self, tower: TextTower | ImageTower) -> None:
        """Refuse a tower without the places that agents and trained projections take.

        Raises:
            BackboneError: there is more than one linear map after the last norm: for a trained projection, or with a
                pooling of many tokens in between.
        """
        if self.config.projections or tower.pooled:
            try:
                _ = tower.projection
            except BackboneError as error:
                other = "mmrl++ and clip-lora need none" + ("" if tower.pooled else ", nor mail without `projections`")
                raise BackboneError(f"MAIL acts before and after the projection, but {error} {other}.") from error

    def start_of_coupling(self, width: int) -> Tensor:
        """Start value of D (text width, rank), drawn from N(0, 1) / sqrt(text width)."""
        return torch.randn(width, self.config.rank) * width**-0.5

    def agent(self, block: int, down: Tensor) -> Agent:
        """The agent of one place of a block, counted from 1, for the towers that have this block."""
        widths = {side: tower.width for side, tower in self.towers.items() if block <= tower.depth}
        coupled = len(widths) == 2 and self.config.coupled_start <= block <= self.config.coupled_end
        return Agent(widths, down if coupled else None)

    def outer_agent(self, widths: dict[Side, int]) -> Agent:
        """An agent after the blocks, for the towers whose end the blocks with agents reach."""
        c, ends = self.config, {side: self.end_of(side) for side in widths}
        reached = {side: width for side, width in widths.items() if c.start <= ends[side] <= c.end}
        coupled = len(reached) == 2 and c.coupled_start <= ends[IMAGE] <= c.coupled_end
        return Agent(reached, self.start_of_coupling(widths[TEXT]) if coupled else None)

    def end_of(self, side: Side) -> int:
        """The number of the block that counts as the last of a tower."""
        return PUBLISHED_DEPTH if self.config.published else self.towers[side].depth

    def hooks(self) -> Iterable[Hook]:
        """The agents in the blocks, and features through the agents after them and the trained projections."""
        for place, site in SITES.items():
            for layer, agent in self.get_submodule(place).named_children():
                for side, tower in self.towers.items():
                    if int(layer) < tower.depth:
                        yield adapt(side, int(layer), partial(agent, side), site, replace=True)
        for side in self.towers:
            yield head(side, "pooled", project=partial(self.project, side))

    def project(self, side: Side, x: Tensor) -> Tensor:
        """Normed tokens (..., width) -> features (..., joint), through both agents and the tower's projection."""
        x = self.last_norm(side, x)
        tower = self.towers[side]
        if self.config.projections:
            x = F.linear(x, self.projections[side.value]().T, tower.projection_bias)
        else:
            x = tower.project(x)
        return self.projected(side, x)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy, and those of the three terms of consistency that have a weight."""
        c = self.config
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.logits(), fwd.labels))
        if c.image_loss:
            yield LossTerm("image", c.image_loss, cosine_distance(fwd.image(), fwd.zero_shot.image))
        if c.text_loss:
            yield LossTerm("text", c.text_loss, cosine_distance(fwd.text(), fwd.zero_shot.text))
        if c.logits_loss:
            yield LossTerm("logits", c.logits_loss, divergence(fwd.logits(), fwd.zero_shot.logits))


def projection_copy(tower: TextTower | ImageTower) -> TrainedCopy:
    """A trained copy of a tower's projection (width, joint)."""
    return TrainedCopy(lambda: tower.projection, decay_to_zero=True)


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of softmax(logits) from softmax(target), over the number of logits (B, classes)."""
    tuned, frozen = logits.float().log_softmax(-1), target.float().log_softmax(-1)
    return F.kl_div(tuned, frozen, reduction="sum", log_target=True) / logits.numel()
