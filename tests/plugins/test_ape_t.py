from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import disturb, forward
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import SEEN

UNEVEN = (4, 1, 3, 2, 2)


@torch.no_grad()
def ape_t(**options: Any) -> Any:
    return prepared("ape-t", {"shots": UNEVEN}, **{"passes": 2, "channels": 0.25, **options})


def test_what_is_trained_are_residuals_per_class_and_a_weight_per_image() -> None:
    assert trainable_count(ape_t()) == 5 * 8 + sum(UNEVEN)


@torch.no_grad()
def test_channels_are_chosen_by_the_texts_alone() -> None:
    method = ape_t(similarity_weight=1.0, variance_weight=0.0)
    texts = forward(method).zero_shot.text
    similarity = sum(texts[i] * texts[j] for i in range(5) for j in range(5) if i != j) / 20
    assert method.channels.tolist() == similarity.argsort()[:8].tolist()


@torch.no_grad()
def test_residuals_change_texts_and_keys_of_their_class_on_the_channels_chosen() -> None:
    method = ape_t(alpha=1.5, beta=2.0)
    disturb(method.residual, method.value_weights)
    x = forward(method)
    full = torch.zeros(5, 32)
    for column, channel in enumerate(method.channels):
        full[:, channel] = method.residual[:, column]
    expected = x.scale * x.image() @ (x.zero_shot.text + full).T
    for i, label in enumerate(method.labels):
        affinity = x.image() @ (method.keys[i] + full[label])
        expected[:, label] += 1.5 * method.value_weights[i, 0] * torch.exp(-2.0 * (1 - affinity))
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_alpha_and_beta_are_searched_after_training() -> None:
    method = ape_t(alpha=2.0, beta=3.0, alpha_steps=3, beta_steps=4, max_alpha=20.0)
    assert (float(method.alpha), float(method.beta)) == (2.0, 3.0)
    support = FewShots(method, shots=UNEVEN)
    found: dict[int, tuple[float, float]] = {}
    for i in range(4):
        for j in range(3):
            beta, alpha = 0.1 + i * 6.9 / 4, 0.1 + j * 19.9 / 3
            method.alpha.fill_(alpha)
            method.beta.fill_(beta)
            right = sum(int((method.route(x, SEEN).argmax(1) == x.labels).sum()) for x in support.validation())
            found.setdefault(right, (beta, alpha))
    method.finish(support)
    assert (float(method.beta), float(method.alpha)) == pytest.approx(found[max(found)])
