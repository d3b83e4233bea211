"""GalLoP (Lafon et al., ECCV 2024)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    CONTEXT,
    EMBEDDING,
    IMAGE,
    TEXT,
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Read,
    Recipe,
    Role,
    Task,
    head,
    inject,
    per_variant,
    prompt,
)

LOCAL = "local"


@dataclass
class GalLoPConfig:
    """Options of GalLoP.

    Args:
        global_prompts: number G of contexts that are matched to the image's own feature.
        patches: number k of best patches of each local context; as many local contexts as there are numbers.
        dropout: share of the global contexts that a training image leaves out.
        replacement: draw the others with replacement, as the published code does, even all of them at a dropout of 0.
        words: text before the class name that all contexts start from; each of its tokens is learned.
        local_map: train a linear map of the local features.
    """

    global_prompts: int = 4
    patches: list[int] = field(default_factory=lambda: [5, 10, 15, 20])
    dropout: float = 0.75
    replacement: bool = True
    words: str = "A photo of a"
    local_map: bool = True


class GalLoP(Method):
    """Global and Local Prompts: some contexts are matched to the image, others each to its k best patches.

    The prompt of class c is a context before its name. With x the unit image feature, v_cj the unit text features of G
    global contexts, x_p the unit local features of the patches p, w_ci those of the local contexts and s CLIP's scale:

        g_cj = s x . v_cj    l_ci = s mean of the k_i largest of x_p . w_ci over p
        loss = CE(mean over drawn j of g_cj, y) + mean_i CE(l_ci, y)
        z_c  = (mean_j g_cj + mean_i l_ci) / 2

    Each training image draws max(G - floor(dropout G), 1) of the global contexts. A patch's token attends to itself
    alone in the last block (`Read.LOCAL`); x_p is this token after the final norm, a trained linear map W that starts
    as the identity, and CLIP's projection.

    Images of other classes score low in GL-MCM, `max_c softmax_c(g_c / s) + max_{p,c} softmax_c(l_pc / s)` with g and l
    averaged over contexts and l_pc of one patch: see `certainty`.

    Official code (MarcLafon/gallop) draws the contexts with replacement, even all G of them without dropout; so does
    this, unless `replacement` is off. It tokenises class names with their underscores, which are spaces here. As there,
    all contexts start alike, so that local ones differ by k alone, no full stop follows the name, an image with fewer
    than k patches gives all of them, and the last epoch is kept whatever it scores on test images. Its ResNets take
    local features from the attention pool; a ResNet tower here gives its pooled output alone, and GalLoP refuses it.
    """

    Config = GalLoPConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=200, batch_size=32, weight_decay=1e-2, warmup_epochs=0)
    paper = "Lafon et al., GalLoP: Learning Global and Local Prompts for Vision-Language Models, ECCV 2024"

    @classmethod
    def limitations_for(cls, config: GalLoPConfig) -> Mapping[str, str]:
        """Draws with replacement stay random without dropout, which each process makes for its own images."""
        drawn = "each process draws contexts for its own images, with replacement even without dropout"
        return {**cls.limitations, "two-processes": drawn} if config.replacement else cls.limitations

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the contexts (G, n, width) and (L, n, width), and the map of local features.

        Raises:
            DataError: there is no global or no local context, or a number of patches is below 1.
        """
        c = self.config
        if c.global_prompts < 1 or not c.patches or min(c.patches) < 1:
            raise DataError(
                "GalLoP needs a global prompt, and at least one patch for each of at least one local prompt."
            )
        self.image = backbone.image
        context = backbone.text.words(c.words)
        self.template = f"[{len(context)}] {{}}"
        self.global_contexts = nn.Parameter(context.repeat(c.global_prompts, 1, 1))
        self.local_contexts = nn.Parameter(context.repeat(len(c.patches), 1, 1))
        self.map: nn.Module = nn.Identity()
        if c.local_map:
            self.map = nn.Linear(self.image.width, self.image.width, bias=False)
            nn.init.eye_(self.map.weight)
        self.dropout = PromptDropout(c.dropout, c.replacement)

    def hooks(self) -> Iterable[Hook]:
        """A prompt for each context, and a head with the local features."""
        yield prompt(self.template)
        contexts = torch.cat([self.global_contexts, self.local_contexts])
        yield inject(TEXT, {EMBEDDING: per_variant(contexts)}, at=CONTEXT)
        yield head(IMAGE, LOCAL, read=Read.LOCAL, project=lambda tokens: self.image.project(self.map(tokens)))

    def texts(self, fwd: ForwardPass) -> tuple[Tensor, Tensor]:
        """Unit text features (G, classes, joint) of the global contexts and (L, classes, joint) of the local ones."""
        found = fwd.text().reshape(-1, len(fwd.names), self.image.joint)
        return found[: len(self.global_contexts)], found[len(self.global_contexts) :]

    def global_cosines(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, classes, G) of the image with the global contexts."""
        return fwd.once("global", lambda: torch.einsum("bd,gcd->bcg", fwd.image(), self.texts(fwd)[0]))

    def patch_cosines(self, fwd: ForwardPass) -> Tensor:
        """Cosines (B, patches, classes, L) of each patch with the local contexts."""
        patches = fwd.image(LOCAL)[:, self.image.leading :]
        return fwd.once("patches", lambda: torch.einsum("bpd,lcd->bpcl", patches, self.texts(fwd)[1]))

    def local_cosines(self, fwd: ForwardPass) -> Tensor:
        """Means (B, classes, L) of the k largest cosines of each local context."""
        return fwd.once("local", lambda: best_patches(self.patch_cosines(fwd), self.config.patches))

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy of the global contexts that each image draws, and of each local context."""
        local = self.local_cosines(fwd)
        labels = fwd.labels[:, None].expand(-1, local.shape[-1])
        yield LossTerm("ce", 1.0, F.cross_entropy(fwd.scale * self.dropout(self.global_cosines(fwd)), fwd.labels))
        yield LossTerm("local", 1.0, F.cross_entropy(fwd.scale * local, labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The mean of global and local scores, for seen and unseen classes alike."""
        return fwd.scale * (self.global_cosines(fwd).mean(-1) + self.local_cosines(fwd).mean(-1)) / 2

    def certainty(self, fwd: ForwardPass, role: Role) -> Tensor:
        """GL-MCM (B,), between 0 and 2: Miyai et al., GL-MCM: Global and Local Maximum Concept Matching, IJCV 2025."""
        whole = self.global_cosines(fwd).mean(-1).float().softmax(-1).amax(-1)
        patch = self.patch_cosines(fwd).mean(-1).float().softmax(-1).amax((1, 2))
        return whole + patch


class PromptDropout(nn.Dropout):
    """Mean over prompts, in training over some that each image draws.

    Args:
        share: of the prompts that an image leaves out.
        replacement: draw with replacement.
    """

    def __init__(self, share: float, replacement: bool = True):
        super().__init__(share)
        self.replacement = replacement

    def forward(self, cosines: Tensor) -> Tensor:
        """Cosines (B, classes, G) -> (B, classes)."""
        prompts = cosines.shape[-1]
        if not self.training:
            return cosines.mean(-1)
        drawn = self.draw(len(cosines), prompts, max(prompts - int(self.p * prompts), 1), cosines.device)
        return cosines.gather(-1, drawn[:, None].expand(-1, cosines.shape[1], -1)).mean(-1)

    def draw(self, images: int, prompts: int, kept: int, device: torch.device) -> Tensor:
        """Indices (images, kept) of the prompts that each image keeps, with replacement one of them perhaps twice."""
        if self.replacement:
            return torch.randint(prompts, (images, kept), device=device)
        return torch.rand(images, prompts, device=device).argsort(dim=-1)[:, :kept]


def best_patches(cosines: Tensor, numbers: list[int]) -> Tensor:
    """Means (B, classes, L) of the k largest over patches of cosines (B, patches, classes, L), each of L with its k."""
    best = cosines.topk(min(max(numbers), cosines.shape[1]), dim=1).values
    return torch.stack([best[:, :k, :, i].mean(dim=1) for i, k in enumerate(numbers)], dim=-1)
