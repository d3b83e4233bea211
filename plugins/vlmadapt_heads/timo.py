"""TIMO (Li et al., AAAI 2025): images weigh the descriptions of a class, and descriptions join its images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import Backbone, ForwardPass, Recipe, Support, SupportMethod, Task, assign
from vlmadapt_heads.gda import discriminant, shrunk_precision
from vlmadapt_heads.prototypes import first_batch
from vlmadapt_heads.samples import Samples, held_out, views_of


@dataclass
class TIMOConfig:
    """Options of TIMO.

    Args:
        passes: augmented views of each support image.
        gamma: how sharply images choose among descriptions; published 50, 1 on ImageNet and 100 on OxfordFlowers.
        alpha: weight of the text classifier, before or without a search; 100 is CLIP's own scale.
        search: what validation images choose: nothing, alpha (TIMO), or gamma, the number of descriptions and alpha
            (TIMO-S). Without validation images the values above stay.
        alphas: values of the search for alpha.
        cut: keep as many descriptions of each class as the class with the fewest has, its first ones, as published.
    """

    passes: int = 10
    gamma: float = 50.0
    alpha: float = 100.0
    search: Literal["none", "alpha", "full"] = "alpha"
    alphas: list[float] = field(default_factory=lambda: [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1e3, 1e4])
    cut: bool = True


class Guided(NamedTuple):
    """Descriptions of the classes as their images see them.

    Attributes:
        text: (classes, joint) unit mean of each class's descriptions, weighted by the images.
        instances: for each class (n, joint) unit features of its descriptions, closest to its images first.
        closeness: for each class (n,) their cosines with the mean image.
    """

    text: Tensor
    instances: tuple[Tensor, ...]
    closeness: tuple[Tensor, ...]


class TIMO(SupportMethod):
    """Text-Image Mutual guidance: a Gaussian classifier on images and descriptions, added to weighted descriptions.

    With p_{c,k} the unit feature of description k of class c, m_c the unit mean image of the class, n() the unit norm
    and a_{c,k} = m_c . p_{c,k}, images guide texts,

        w_c = n(sum_k softmax_k(gamma a_{c,k} / |a_c|) p_{c,k})

    and texts guide images: the descriptions closest to m_c join the image features of class c as the samples
    a_{c,k} p_{c,k}, of which GDA's W and b are computed. With x the unit image feature,

        z_c = alpha x . w_c + x . W_c + b_c

    Alpha is the value with the best validation accuracy, the smallest on a tie. TIMO-S (`search: full`) also chooses
    gamma, by the accuracy of x . w_c, and how many descriptions join, up to twice all of them.

    Official code (lyymuwu/TIMO) cuts every class to the smallest number of descriptions; without `cut` each keeps its
    own, and TIMO-S takes the same share of each. It joins descriptions with templates; put both into one file, the
    templates first. Test images take part in nothing, but where it reads ImageNet's validation set as test set it
    searches on it; here the search never sees a test image.
    """

    Config = TIMOConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(epochs=0, crop_scale=(0.5, 1.0))
    paper = "Li et al., Text and Image Are Mutually Beneficial, AAAI 2025"

    text: Tensor
    weight: Tensor
    bias: Tensor
    alpha: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Create w and W (classes, joint), b (classes,) and alpha, which `prepare` and `finish` set."""
        for name in ("text", "weight"):
            self.register_buffer(name, torch.zeros(len(task.classes), backbone.image.joint))
        self.register_buffer("bias", torch.zeros(len(task.classes)))
        self.register_buffer("alpha", torch.tensor(float(self.config.alpha)))

    @property
    def reads_descriptions(self) -> bool:
        """Classes have to be described."""
        return True

    def fitted(self) -> int:
        """Number of classes W was solved for."""
        return len(self.bias)

    def prepare(self, support: Support) -> None:
        """Weigh the descriptions, and estimate the Gaussians with all of them."""
        described, images, samples = self.features(support)
        guided = guide(described, images, self.config.gamma)
        self.keep(guided.text, *gaussians(guided, samples, 1.0))

    def features(self, support: Support) -> tuple[Sequence[Tensor], Tensor, Samples]:
        """Descriptions (n, joint) of each class, its mean image (classes, joint), and all views of all images."""
        fwd = first_batch(support)
        texts = fwd.descriptions
        described = fwd.sentences(texts).zero_shot.text.float().split(texts.counts)
        if self.config.cut:
            described = tuple(features[: min(texts.counts)] for features in described)
        every, mean = views_of(support, self.config.passes)
        return described, F.normalize(mean.means(self.fitted()), dim=-1), every

    def keep(self, text: Tensor, weight: Tensor, bias: Tensor) -> None:
        """Set what scores are computed from."""
        assign(self.text, text)
        assign(self.weight, weight)
        assign(self.bias, bias)

    def finish(self, support: Support) -> None:
        """Choose on the validation images."""
        validation = held_out(support)
        if self.config.search == "none" or not len(validation.labels):
            return
        best = -1
        for text, weight, bias in self.candidates(support, validation):
            for alpha in self.config.alphas:
                correct = right(
                    alpha * validation.features @ text.T + validation.features @ weight.T + bias, validation
                )
                if correct > max(best, 0):
                    best = correct
                    self.keep(text, weight, bias)
                    self.alpha.fill_(alpha)

    def candidates(self, support: Support, validation: Samples) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What alpha is searched for: w, W and b, in TIMO-S for each number of descriptions."""
        if self.config.search == "alpha":
            yield self.text.clone(), self.weight.clone(), self.bias.clone()
            return
        described, images, samples = self.features(support)
        # The published search starts from 0, where it stays if no gamma classifies any image correctly.
        tried = [guide(described, images, gamma) for gamma in (0, *range(5, 101, 5))]
        found = [0, *(right(validation.features @ guided.text.T, validation) for guided in tried[1:])]
        guided = tried[found.index(max(found))]
        most = max(map(len, guided.instances))
        for number in torch.linspace(1, 2 * most, 10, device="cpu").int().tolist():
            yield guided.text, *gaussians(guided, samples, number / most)

    def scores(self, fwd: ForwardPass) -> Tensor:
        """Weighted texts and Gaussians, (B, classes)."""
        image = fwd.zero_shot.image
        return self.alpha * image @ self.text.T + image @ self.weight.T + self.bias


def guide(features: Sequence[Tensor], images: Tensor, gamma: float) -> Guided:
    """Weigh and sort descriptions by the images of their class.

    Args:
        features: unit features (n, joint) of each class's descriptions.
        images: (classes, joint) unit mean image of each class.
        gamma: how sharply images choose.
    """
    text, instances, closeness = [], [], []
    for described, image in zip(features, images, strict=True):
        near = described @ image
        text.append((near / near.norm() * gamma).softmax(dim=0) @ described)
        order = near.argsort(descending=True)
        instances.append(described[order])
        closeness.append(near[order])
    return Guided(F.normalize(torch.stack(text), dim=-1), tuple(instances), tuple(closeness))


def gaussians(guided: Guided, samples: Samples, share: float) -> tuple[Tensor, Tensor]:
    """W (classes, joint) and b (classes,) of image samples and a share of each class's descriptions; 2 is all twice."""
    features, labels = [], []
    for label, (described, near) in enumerate(zip(guided.instances, guided.closeness, strict=True)):
        number = max(round(share * len(described)), 1)
        features.append((described * near[:, None]).repeat(2, 1)[:number])
        labels.append(torch.full((number,), label, device=described.device))
    joined = Samples(torch.cat([*features, samples.features]), torch.cat([*labels, samples.labels]))
    means = joined.means(len(guided.instances))
    return discriminant(means, shrunk_precision(joined, means))


def right(scores: Tensor, samples: Samples) -> int:
    """How many samples the scores (N, classes) classify correctly."""
    return int((scores.argmax(dim=-1) == samples.labels).sum())
