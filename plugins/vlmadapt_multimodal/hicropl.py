"""HiCroPL (Zheng et al., ICCV 2025)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    CONTEXT,
    END,
    IMAGE,
    TEXT,
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Task,
    cosine_distance,
    inject,
    prompt,
    random_tokens,
    similarity,
)
from vlmadapt_multimodal.context import by_depth, starting_context

HEADS = 8


@dataclass
class HiCroPLConfig:
    """Options of HiCroPL.

    Args:
        tokens: length n of the prompts at each depth of both towers.
        words: words whose first `tokens` tokens initialise the text prompt at the input, the rest stays frozen text
            before the class name; with more than 4 tokens the initialisation is random, as in the published code.
        depth: number of depths with prompts: at the input and before blocks 2 to `depth` (counted from 1).
        cross: in the first `cross` depths text prompts flow into image prompts, in the others the other way round.
        weight: weight of the distances to the frozen features.
        published: leave the mappers untrained and let them overwrite the prompts at every training step, as the
            published code does.
    """

    tokens: int = 16
    words: str = "a photo of a"
    depth: int = 12
    cross: int = 6
    weight: float = 12.0
    published: bool = False


class Pooling(nn.Module):
    """One proxy token that attends to the prompts of a depth."""

    def __init__(self, width: int):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, HEADS)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, proxy: Tensor, prompts: Tensor) -> Tensor:
        """Proxy token (1, width) and prompts (n, width) -> pooled token (1, width)."""
        key = self.norm1(prompts)
        return self.norm2(proxy + self.attn(self.norm1(proxy), key, key, need_weights=False)[0])


class Mapper(nn.Module):
    """Prompts of one tower, rewritten with pooled tokens of the other."""

    def __init__(self, width: int, source: int):
        super().__init__()
        self.query, self.key, self.value = nn.Linear(width, width), nn.Linear(source, width), nn.Linear(source, width)
        self.norm1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, HEADS)
        self.norm2 = nn.LayerNorm(width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, prompts: Tensor, pooled: Tensor) -> Tensor:
        """Prompts (m, width) and pooled tokens (depths, source) -> prompts (m, width)."""
        query, key, value = self.query(prompts), self.norm1(self.key(pooled)), self.norm1(self.value(pooled))
        x = query + self.attn(self.norm1(query), key, value, need_weights=False)[0]
        hidden = self.expand(self.norm2(x))
        return x + self.contract(hidden * torch.sigmoid(1.702 * hidden))  # CLIP's QuickGELU


class Flow(nn.Module):
    """One direction of the mapping, for a group of depths: pool the prompts of one tower, rewrite the other's.

    Args:
        source: width of the tower that is pooled.
        width: width of the tower whose prompts are rewritten.
        depths: number of depths.
    """

    def __init__(self, source: int, width: int, depths: int):
        super().__init__()
        start, proxy = Pooling(source), torch.randn(1, source)
        self.pools = nn.ModuleList(Pooling(source) for _ in range(depths))
        for pool in self.pools:
            pool.load_state_dict(start.state_dict())  # copies of one start, as in the published code
        self.proxies = nn.ParameterList(nn.Parameter(proxy.clone()) for _ in range(depths))
        self.mapper = Mapper(width, source)

    def forward(self, read: Sequence[Tensor], rewritten: Sequence[Tensor]) -> list[Tensor]:
        """Prompts (n, source) and (n, width) of each depth -> the latter rewritten, (n, width) each."""
        pooled = torch.cat([pool(proxy, p) for pool, proxy, p in zip(self.pools, self.proxies, read, strict=True)])
        mapped = self.mapper(torch.cat(list(rewritten)), pooled)
        return list(mapped.split([len(p) for p in rewritten]))


class HiCroPL(Method):
    """Hierarchical cross-modal prompts: knowledge flows from text to image in lower blocks, and back in upper ones.

    Both towers have prompts before each of the first blocks, after the start token and after the patches. In the first
    `cross` depths one proxy token per depth attends to the text prompts; a mapper lets the image prompts of all these
    depths attend to the proxies, and its output takes the place of the image prompts. In the other depths image prompts
    are pooled and text prompts rewritten. With f, w the unit features, f_0 that of frozen CLIP, w_0 the unit mean of
    the frozen features of a class's descriptions, and n() the unit norm,

        f' = n(f + f_0),   w' = n(w + w_0),   z = s f' . w'
        loss = CE(z) + weight (2 - mean cos(f', f_0) - mean cos(w', w_0))

    Official code (zzeoZheng/HiCroPL) copies the mapped prompts into the parameters outside the graph: mappers, pooling
    and proxies never get a gradient, and every forward pass overwrites prompts, in tests too, so that the answer to a
    batch depends on how many batches were scored before. Here the mapping is part of the graph and changes nothing;
    with `published` it overwrites the prompts at each training step, and every test batch is answered as the published
    code answers its first one. The mapper's residual is to the mapped query, not to the prompt. Prompts of an image and
    proxies start alike at every depth. The paper's teacher may be another backbone; here it is the adapted one, as in
    the released settings.
    """

    Config = HiCroPLConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(optimizer="adam", lr=2.5e-3, eps=1e-3, epochs=50, batch_size=32)
    paper = "Zheng et al., Hierarchical Cross-modal Prompt Learning for Vision-Language Models, ICCV 2025"

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the prompts (n, width) of each depth and tower, and the mapping in both directions."""
        c, text, image = self.config, backbone.text, backbone.image
        depth = min(c.depth, text.depth, image.depth)
        self.cross = c.cross
        if not 1 <= c.cross < depth:
            raise DataError(f"cross is {c.cross}; it has to be at least 1 and below the number of depths, {depth}.")
        if text.width % HEADS or image.width % HEADS:
            raise DataError(f"HiCroPL's {HEADS} heads do not divide the widths {text.width} and {image.width}.")
        first, self.template = starting_context(text, c.words, c.tokens)
        self.text = nn.ParameterList([first, *(random_tokens(c.tokens, text.width) for _ in range(depth - 1))])
        start = random_tokens(c.tokens, image.width)
        self.image = nn.ParameterList(nn.Parameter(start.detach().clone()) for _ in range(depth))
        self.to_image = Flow(text.width, image.width, c.cross)
        self.to_text = Flow(image.width, text.width, depth - c.cross)
        if c.published:
            self.to_image.requires_grad_(False)
            self.to_text.requires_grad_(False)

    @property
    def reads_descriptions(self) -> bool:
        """Classes have to be described."""
        return True

    def mapped(self) -> tuple[list[Tensor], list[Tensor]]:
        """Text and image prompts of each depth after the mapping, (n, width) each."""
        text, image, k = list(self.text), list(self.image), self.cross
        return text[:k] + self.to_text(image[k:], text[k:]), self.to_image(text[:k], image[:k]) + image[k:]

    @torch.no_grad()
    def overwrite(self) -> None:
        """Write the mapped prompts over the prompts."""
        for parameters, values in zip((self.text, self.image), self.mapped(), strict=True):
            for parameter, value in zip(parameters, values, strict=True):
                parameter.copy_(value)

    def hooks(self) -> Iterable[Hook]:
        """Deep prompts in both towers."""
        as_they_are = self.config.published and self.training  # the step has overwritten them
        text, image = (list(self.text), list(self.image)) if as_they_are else self.mapped()
        yield prompt(self.template)
        yield inject(TEXT, by_depth(text, len(text)), at=CONTEXT)
        yield inject(IMAGE, by_depth(image, len(image)), at=END)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy, and the distances of both summed features from the frozen ones."""
        if self.config.published and self.training:
            self.overwrite()
        weight = self.config.weight
        yield LossTerm("ce", 1.0, F.cross_entropy(self.route(fwd, Role.SEEN), fwd.labels))
        yield LossTerm("text", weight, cosine_distance(self.text_features(fwd), self.described(fwd)))
        yield LossTerm("image", weight, cosine_distance(self.image_features(fwd), fwd.zero_shot.image))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Logits of the summed features, for seen and unseen classes alike."""
        return fwd.scale * similarity(self.image_features(fwd), self.text_features(fwd))

    def image_features(self, fwd: ForwardPass) -> Tensor:
        """Unit sum (B, joint) of tuned and frozen unit features."""
        return fwd.once("image", lambda: F.normalize(fwd.image() + fwd.zero_shot.image, dim=-1))

    def text_features(self, fwd: ForwardPass) -> Tensor:
        """Unit sum (classes, joint) of the tuned unit features and those of the descriptions."""
        return fwd.once("text", lambda: F.normalize(fwd.text() + self.described(fwd), dim=-1))

    def described(self, fwd: ForwardPass) -> Tensor:
        """Unit mean (classes, joint) of the frozen unit features of each class's descriptions."""

        def described() -> Tensor:
            return F.normalize(fwd.descriptions.mean(fwd.sentences().zero_shot.text), dim=-1)

        return fwd.once("described", described)
