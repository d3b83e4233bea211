from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import forward

UNEVEN = (4, 1, 3, 2, 2)


@torch.no_grad()
def clap(**options: Any) -> Any:
    return prepared("clap", {"shots": UNEVEN}, passes=3, **options)


@torch.no_grad()
def moved(**options: Any) -> Any:
    """With prototypes away from their start."""
    method = clap(**options)
    method.prototypes.add_(torch.randn(method.prototypes.shape, generator=torch.Generator().manual_seed(1)))
    return method


@torch.no_grad()
def zero_shot_probabilities(method: Any) -> torch.Tensor:
    """Mean probability of the true class over all views of its support images, image by image."""
    sums, counts = torch.zeros(5), torch.zeros(5)
    for batches in FewShots(method, shots=UNEVEN).epochs(True, 3):
        for x in batches:
            for row, label in zip(x.zero_shot.logits.softmax(-1), x.labels, strict=True):
                sums[label] += row[label]
                counts[label] += 1
    return sums / counts


def test_multipliers_are_the_zero_shot_probabilities_of_the_true_class() -> None:
    method = clap()
    torch.testing.assert_close(method.multipliers, zero_shot_probabilities(method), rtol=1e-4, atol=1e-5)


def test_multipliers_of_other_kinds_follow_from_them() -> None:
    found = zero_shot_probabilities(clap())
    expected = {"balanced": torch.ones(5), "constant": found.mean().expand(5), "corrected": found / found.mean()}
    for kind, values in expected.items():
        torch.testing.assert_close(clap(multipliers=kind).multipliers, values, rtol=1e-4, atol=1e-5)


def test_a_class_without_images_is_not_held_back() -> None:
    method = prepared("clap", {"shots": (3, 0, 3, 3, 3)}, passes=1)
    assert float(method.multipliers[1]) == 0
    assert method.multipliers[0] > 0


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_the_penalty_is_the_mean_over_classes_of_weighted_distances(distance: str) -> None:
    method = moved(distance=distance)
    _, penalty = method.losses(forward(method))
    expected = torch.zeros(())
    for weight, new, old in zip(method.multipliers, method.prototypes, method.start, strict=True):
        cosine = 1 - torch.dot(new, old) / (new.norm() * old.norm())
        expected = expected + weight * ((new - old).pow(2).sum() if distance == "l2" else cosine)
    torch.testing.assert_close(penalty.value, expected / 5, rtol=1e-4, atol=1e-6)
    assert penalty.weight == 1


def test_at_the_start_there_is_no_penalty() -> None:
    method = clap()
    assert [float(term.value) for term in method.losses(forward(method)) if term.name == "penalty"] == [0]


def test_the_published_multipliers_never_change() -> None:
    method = moved()
    before = method.multipliers.clone()
    method.epoch_end(0, 2)
    torch.testing.assert_close(method.multipliers, before)


def test_adaptive_multipliers_grow_by_the_last_and_the_present_distance() -> None:
    method = moved(adaptive=True)
    before, first = method.multipliers.clone(), (method.prototypes - method.start).pow(2).sum(-1)
    method.epoch_end(0, 2)
    torch.testing.assert_close(method.multipliers, before)  # rho is still 0
    with torch.no_grad():
        method.prototypes.mul_(1.1)
    second = (method.prototypes - method.start).pow(2).sum(-1)
    method.epoch_end(1, 2)
    torch.testing.assert_close(method.multipliers, (before + first * second).detach(), rtol=1e-4, atol=1e-5)
