from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import forward
from vlmadapt.plugin import IMAGE, SEEN
from vlmadapt_heads.channels import class_similarity, criterion

UNEVEN = (4, 1, 3, 2, 2)
GRID = {"beta_steps": 5, "alpha_steps": 4, "gamma_steps": 3, "max_alpha": 20.0, "max_gamma": 2.0}


@torch.no_grad()
def ape(**options: Any) -> Any:
    return prepared("ape", {"shots": UNEVEN}, **{"passes": 3, "channels": 0.5, **GRID, **options})


def test_class_similarity_is_the_mean_over_all_pairs_of_samples_of_different_classes() -> None:
    samples = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0)).double()
    pairs = [samples[i, m] * samples[j, n] for i, j, m, n in product(range(4), range(4), range(3), range(3)) if i != j]
    torch.testing.assert_close(class_similarity(samples.mean(1)), torch.stack(pairs).mean(0))


def test_the_criterion_wants_little_similarity_and_much_variance() -> None:
    texts = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    torch.testing.assert_close(criterion(torch.tensor([0.5, 1.0]), texts, (0.7, 0.3)), torch.tensor([0.25, -0.7]))


@torch.no_grad()
def test_half_of_the_channels_are_kept_those_with_the_largest_criterion() -> None:
    method = ape(similarity_weight=0.0, variance_weight=1.0)
    variance = forward(method).zero_shot.text.var(dim=0)
    assert len(method.channels) == 16
    others = [c for c in range(32) if c not in method.channels.tolist()]
    assert variance[method.channels].min() >= variance[others].max()


@torch.no_grad()
def test_scores_are_zero_shot_clip_and_a_weighted_vote_on_the_channels_kept() -> None:
    method = ape(alpha=2.0, beta=3.0, gamma=0.4)
    passes = [torch.cat([x.features(IMAGE) for x in b]) for b in FewShots(method, shots=UNEVEN).epochs(True, 3)]
    keys, labels = F.normalize(torch.stack(passes).mean(dim=0), dim=-1), FewShots(method, shots=UNEVEN).train[1]
    x = forward(method)
    kept = method.channels
    texts = F.normalize(x.zero_shot.text[:, kept], dim=-1)
    expected = x.zero_shot.logits.clone()
    for image in range(4):
        for key, label in zip(F.normalize(keys[:, kept], dim=-1), labels, strict=True):
            bits = -torch.log2((texts @ key).softmax(0)[label])
            affinity = F.normalize(x.image()[image, kept], dim=0) @ key
            expected[image, label] += 2.0 * torch.exp(-3.0 * (1 - affinity)) * torch.exp(0.4 * bits)
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_the_grid_is_searched_on_validation_images_and_the_first_best_is_taken() -> None:
    method = ape()
    support = FewShots(method, shots=UNEVEN)
    best, found, counts = -1, (0.0, 0.0, 0.0), set()
    for i, j, k in product(range(5), range(4), range(3)):
        values = 0.1 + i * 6.9 / 5, 0.1 + j * 19.9 / 4, k * 2.0 / 3
        for tensor, value in zip((method.beta, method.alpha, method.gamma), values, strict=True):
            tensor.fill_(value)
        right = sum(int((method.route(x, SEEN).argmax(1) == x.labels).sum()) for x in support.validation())
        counts.add(right)
        if right > best:
            best, found = right, values
    assert len(counts) > 1, "the grid must matter here"
    method.finish(support)
    assert (float(method.beta), float(method.alpha), float(method.gamma)) == pytest.approx(found)


@torch.no_grad()
def test_without_validation_images_the_published_values_stay() -> None:
    method = ape(alpha=2.0, beta=3.0, gamma=0.4)
    method.finish(FewShots(method, held_out=(0,) * 5))
    assert (float(method.alpha), float(method.beta), float(method.gamma)) == pytest.approx((2.0, 3.0, 0.4))
