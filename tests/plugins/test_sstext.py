from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import forward
from vlmadapt.plugin import IMAGE, SEEN

UNEVEN = (4, 1, 0, 2, 2)


@torch.no_grad()
def solved(**options: Any) -> Any:
    return prepared("ss-text", {"shots": UNEVEN}, **options)


@torch.no_grad()
def parts(method: Any) -> tuple[torch.Tensor, torch.Tensor, list[list[torch.Tensor]]]:
    """CLIP's scale, unit text features, and the unit image features of each class."""
    images: list[list[torch.Tensor]] = [[] for _ in UNEVEN]
    for x in next(FewShots(method, shots=UNEVEN).epochs(augmented=False)):
        for feature, label in zip(F.normalize(x.features(IMAGE), dim=-1), x.labels, strict=True):
            images[label].append(feature)
    return x.scale, x.zero_shot.text, images


def prior(kind: str, scale: torch.Tensor, texts: torch.Tensor, images: list[list[torch.Tensor]]) -> list[float]:
    if kind == "fixed":
        return [0.1] * 5
    if kind == "shots":
        return [1 / 9] * 5
    if kind == "class-shots":
        return [1 / len(own) if own else float("inf") for own in images]
    found = [
        torch.stack([(scale * f @ texts.T).softmax(-1)[c] for f in own]).mean() for c, own in enumerate(images) if own
    ]
    mean = torch.stack(found).mean()
    return [float(v) for v in (*found[:2], mean, *found[2:])]


@pytest.mark.parametrize("kind", ["shots", "class-shots", "performance", "fixed"])
def test_prototypes_are_texts_and_weighted_sums_of_images(kind: str) -> None:
    method = solved(prior=kind)
    scale, texts, images = parts(method)
    for c, weight in enumerate(prior(kind, scale, texts, images)):
        expected = texts[c].clone()
        for feature in images[c]:
            expected += scale * feature / (9 * max(weight, 1e-3))
        torch.testing.assert_close(method.prototypes[c].detach(), expected, rtol=1e-3, atol=1e-3)


def test_a_class_without_images_keeps_its_text() -> None:
    method = solved()
    torch.testing.assert_close(method.prototypes[2].detach(), parts(method)[1][2], rtol=1e-5, atol=1e-5)


def test_repulsion_subtracts_a_unit_vector_that_points_away_from_the_mean() -> None:
    plain, repelled = solved(prior="class-shots").prototypes, solved(prior="class-shots", repel=True).prototypes
    difference = plain - repelled
    torch.testing.assert_close(difference.norm(dim=-1).detach(), torch.ones(5), rtol=1e-3, atol=1e-3)
    direction = F.normalize(2 * plain - plain.mean(0), dim=-1)
    torch.testing.assert_close(difference.detach(), direction.detach(), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_scores_are_cosines_whatever_the_length() -> None:
    method = solved()
    x = forward(method)
    expected = torch.stack([x.scale * F.cosine_similarity(f, method.prototypes, dim=-1) for f in x.image()])
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-3)
