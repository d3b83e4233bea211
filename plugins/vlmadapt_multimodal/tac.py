"""TAC (Hao et al., CVPR 2025)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from vlmadapt.plugin import (
    CONTEXT,
    END,
    IMAGE,
    PATCHES,
    TEXT,
    Backbone,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Support,
    Task,
    TextTower,
    inject,
    prompt,
    random_tokens,
    similarity,
)
from vlmadapt_multimodal.context import by_depth

MOST_FROM_WORDS = 20
"""Length up to which the published code initialises the context from words."""


@dataclass
class TACConfig:
    """Options of TAC.

    Args:
        clusters: number K of clusters of the training classes.
        text_tokens: length of the text context at each depth.
        image_tokens: number of image tokens at each depth.
        words: text before the class name; its first tokens, with end of text and padding, initialise the input context.
            With more than 20 tokens, or no words, the initialisation is random and the text is "X X ... X", one X per
            token, as in the published code.
        text_depth: number of depths with text contexts: at the input and before blocks 2 to `text_depth` (counted from
            1), at most the number of blocks.
        image_depth: number of depths with image tokens, counted likewise; 0 for clusters alone, at the input.
        text_weight: weight of the distance between text features and frozen ones.
        image_weight: weight of the distance between image features and frozen ones.
        dropout: dropout of the image features in training.
    """

    clusters: int = 5
    text_tokens: int = 5
    image_tokens: int = 5
    words: str = "a photo of a"
    text_depth: int = 12
    image_depth: int = 12
    text_weight: float = 20.0
    image_weight: float = 25.0
    dropout: float = 0.3


class TAC(Method):
    """Task-aware clustering: deep prompts in both towers, next to tokens made of clusters of the training classes.

    With e_c the unit mean of the frozen features of a class's descriptions, k-means with cosine distance gives K unit
    centres m_k. Linear maps with bias, T and V, make tokens T m_k and V m_k of them. A text is

        start of text, T m_1 .. T m_K, learned context, "a photo of a NAME."

    and an image is CLS, patches, V m_1 .. V m_K, learned tokens; the patches may not attend to the V m_k, all other
    tokens may. Before each further block of the first `depth` ones these tokens are set again, with the same T m_k and
    V m_k and other learned ones. With unit features f, w (in training f after dropout), and means over all entries,

        loss = CE(s f . w) + 20 mean|w_c - e_c| + 25 mean|f - f_0|

    over four augmented views of each image; f_0 is the frozen feature of the image without augmentation. After the last
    epoch the parameters become the mean of those at the end of each epoch.

    The clusters belong to the training classes for good, also when other classes are tested: official code
    (FushengHao/TAC) saves and loads them with the weights. Its dropout acts on the frozen f_0 too, drawn again, and so
    it does here. It fails with fewer classes than clusters, and gives NaN where a cluster loses its last class; here
    clusters are repeated, and such a cluster keeps its centre. Its plain images are resized without keeping their
    proportions; here they are what tests get.
    """

    Config = TACConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(optimizer="sgd", lr=2.5e-3, epochs=20, batch_size=8, crop_scale=(0.4, 1.0))
    paper = "Hao et al., Task-Aware Clustering for Prompting Vision-Language Models, CVPR 2025"
    views_per_step = 5
    plain_view = True

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create the tokens of both towers, the maps of clusters, and the buffers of clusters and running average."""
        c, text, image = self.config, backbone.text, backbone.image
        first, self.words = first_context(text, c.words, c.text_tokens)
        deep = (random_tokens(c.text_tokens, text.width) for _ in range(min(c.text_depth, text.depth) - 1))
        self.contexts = nn.ParameterList([first, *deep])
        depth = min(c.image_depth, image.depth)
        self.tokens = nn.ParameterList(random_tokens(c.image_tokens, image.width) for _ in range(depth))
        self.to_text = nn.Linear(text.joint, text.width)
        self.to_image = nn.Linear(text.joint, image.width)
        self.dropout = nn.Dropout(c.dropout)
        self.clusters: Tensor
        self.average: Tensor
        self.register_buffer("clusters", torch.zeros(c.clusters, text.joint))
        self.register_buffer("average", torch.zeros(sum(p.numel() for p in self.parameters())))

    @property
    def reads_descriptions(self) -> bool:
        """Classes have to be described."""
        return True

    def prepare(self, support: Support) -> None:
        """Find the clusters of the training classes, from random ones of them."""
        fwd = next(next(support.epochs(augmented=False)))
        classes, count = self.described(fwd), self.config.clusters
        drawn = torch.randperm(len(classes))
        start = drawn.repeat(-(-count // len(drawn)))[:count].to(classes.device)
        self.clusters.copy_(cluster_centers(classes, start))

    def hooks(self) -> Iterable[Hook]:
        """Clusters and learned tokens in both towers."""
        c = self.config
        clusters, texts = self.to_image(self.clusters), self.to_text(self.clusters)
        contexts = [torch.cat([texts, context]) for context in self.contexts]
        yield prompt(f"[{c.clusters + c.text_tokens}] {self.words} {{}}.")
        yield inject(TEXT, by_depth(contexts, len(contexts)), at=CONTEXT)
        depth = max(len(self.tokens), 1)
        yield inject(IMAGE, by_depth([clusters] * depth, depth), at=END, hidden_from=PATCHES, name="clusters")
        if len(self.tokens):
            yield inject(IMAGE, by_depth(self.tokens, depth), at=END, name="learned")

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy over the augmented views, and the distances to frozen features."""
        c, views = self.config, self.views_per_step - 1
        features = torch.cat([fwd.features(IMAGE), *(fwd.view(i).features(IMAGE) for i in range(1, views))])
        image = F.normalize(self.dropout(features.float()), dim=-1)
        frozen = F.normalize(self.dropout(fwd.view(views).zero_shot.image.float()), dim=-1)
        logits = fwd.scale * similarity(image, fwd.text())
        yield LossTerm("ce", 1.0, F.cross_entropy(logits, fwd.labels.repeat(views)))
        yield LossTerm("text", c.text_weight, F.l1_loss(fwd.text(), self.described(fwd)))
        yield LossTerm("image", c.image_weight, F.l1_loss(image, frozen.repeat(views, 1)))

    def described(self, fwd: ForwardPass) -> Tensor:
        """Unit mean (classes, joint) of the frozen features of each class's descriptions."""
        features = fwd.sentences().zero_shot.template_features[0]
        return F.normalize(fwd.descriptions.mean(features).float(), dim=-1)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Logits, for seen and unseen classes alike."""
        return fwd.scale * similarity(fwd.image(), fwd.text())

    def epoch_start(self, epoch: int, epochs: int) -> None:
        """Reset the average before the first epoch."""
        if epoch == 0:
            self.average.zero_()

    @torch.no_grad()
    def epoch_end(self, epoch: int, epochs: int) -> None:
        """Add the parameters to the average; after the last epoch the average replaces them."""
        parameters = list(self.parameters())
        self.average += parameters_to_vector(parameters) / epochs
        if epoch == epochs - 1:
            for parameter, mean in zip(parameters, self.average.split([p.numel() for p in parameters]), strict=True):
                parameter.copy_(mean.view_as(parameter))


def first_context(text: TextTower, words: str, n: int) -> tuple[nn.Parameter, str]:
    """Create the context (n, width) at the input, and the words between it and the class name."""
    if words and n <= MOST_FROM_WORDS:
        return nn.Parameter(text.embeddings(words)[text.leading : text.leading + n]), words
    return random_tokens(n, text.width), " ".join(["X"] * n)


def cluster_centers(points: Tensor, start: Tensor, tolerance: float = 1e-4, most: int = 300) -> Tensor:
    """K-means with cosine distance, until the centres move less than a tolerance.

    Args:
        points: (n, d).
        start: (k,) indices of the points that are the first centres.
        tolerance: square of the sum of the distances by which the centres move, below which they stay.
        most: steps at most.

    Returns:
        Unit centres (k, d).
    """
    centers = points[start]
    for _ in range(most):
        nearest = (F.normalize(points, dim=-1) @ F.normalize(centers, dim=-1).T).argmax(dim=1)
        members = F.one_hot(nearest, len(centers)).to(points.dtype)  # (n, k)
        counts = members.sum(dim=0)[:, None]
        moved = torch.where(counts > 0, members.T @ points / counts.clamp(min=1), centers)
        shift = (moved - centers).norm(dim=1).sum()
        centers = moved
        if shift.square() < tolerance:
            break
    return F.normalize(centers, dim=-1)
