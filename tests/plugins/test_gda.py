from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import forward
from vlmadapt.plugin import SEEN

UNEVEN = (4, 1, 3, 2, 2)


@torch.no_grad()
def gda(**options: Any) -> Any:
    return prepared("gda", {"shots": UNEVEN}, passes=3, **options)


@torch.no_grad()
def samples(method: Any) -> tuple[np.ndarray, np.ndarray]:
    found = [(x.image(), x.labels) for batches in FewShots(method, shots=UNEVEN).epochs(True, 3) for x in batches]
    return torch.cat([f for f, _ in found]).double().numpy(), torch.cat([y for _, y in found]).numpy()


def test_the_classifier_is_that_of_gaussians_with_a_shrunk_covariance() -> None:
    method = gda()
    x, y = samples(method)
    means = np.stack([x[y == c].mean(0) for c in range(5)])
    within = np.cov((x - means[y]).T)
    precision = 32 * np.linalg.pinv((len(x) - 1) * within + np.trace(within) * np.eye(32))
    bias = [math.log(1 / 5) - m @ precision @ m / 2 for m in means]
    np.testing.assert_allclose(method.weight.numpy(), means @ precision, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(method.bias.numpy(), bias, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_scores_are_zero_shot_clip_and_the_weighted_classifier() -> None:
    method = gda(alpha=0.3)
    x = forward(method)
    expected = x.zero_shot.logits + 0.3 * (x.image() @ method.weight.T + method.bias)
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_alpha_is_the_smallest_of_the_best_on_the_validation_images() -> None:
    method = gda(alphas=[0.01, 1.0, 10.0, 100.0, 1000.0])
    support = FewShots(method, shots=UNEVEN, noise=4.0)
    correct = {}
    for alpha in method.config.alphas:
        method.alpha.fill_(alpha)
        correct[alpha] = sum(int((method.route(x, SEEN).argmax(1) == x.labels).sum()) for x in support.validation())
    assert len(set(correct.values())) > 1, "alpha must matter here"
    method.finish(support)
    assert float(method.alpha) == pytest.approx(max(correct, key=lambda alpha: (correct[alpha], -alpha)))


@torch.no_grad()
def test_without_validation_images_or_a_search_alpha_stays() -> None:
    for options, held_out in (({}, 0), ({"search": False}, 4)):
        method = gda(alpha=0.25, **options)
        method.finish(FewShots(method, held_out=(held_out,) * 5))
        assert float(method.alpha) == 0.25


@torch.no_grad()
def test_a_class_without_images_gets_finite_scores() -> None:
    method = prepared("gda", {"shots": (3, 0, 3, 3, 3)}, passes=1)
    assert method.route(forward(method), SEEN).isfinite().all()
