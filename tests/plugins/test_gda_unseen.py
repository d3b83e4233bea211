from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from tests import small
from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import build, forward
from vlmadapt.plugin import SEEN, UNKNOWN, UNSEEN
from vlmadapt_heads.gda_unseen import mean_shrunk_inverse

OTHERS = ("otter", "tea_pot", "comet")
SHOTS = (6, 4, 5, 3, 4)


@torch.no_grad()
def gda(**options: Any) -> Any:
    return prepared("gda-unseen", {"shots": SHOTS}, passes=4, neighbours=7, text_repeats=3, **options)


def test_the_mean_of_shrunk_inverses_by_woodburys_identity() -> None:
    z = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0)).double()
    expected = [8 * torch.linalg.pinv(c.T @ c + (c.T @ c).trace() / 4 * torch.eye(8).double()) for c in z]
    torch.testing.assert_close(mean_shrunk_inverse(z), torch.stack(expected).mean(0))


@torch.no_grad()
def test_seen_classes_have_the_mean_of_their_covariances() -> None:
    method = gda()
    found = [(x.image(), x.labels) for batches in FewShots(method, shots=SHOTS).epochs(True, 4) for x in batches]
    x, y = torch.cat([f for f, _ in found]).double().numpy(), torch.cat([y for _, y in found]).numpy()
    covariance = np.mean([np.cov(x[y == c].T) for c in range(5)], axis=0)
    ours = method.precision(*_samples(method, found))
    np.testing.assert_allclose(np.linalg.pinv(ours.double().numpy(), rcond=1e-6), covariance, rtol=0.05, atol=1e-5)


def _samples(method: Any, found: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[Any, torch.Tensor]:
    from vlmadapt_heads.samples import Samples

    samples = Samples(torch.cat([f for f, _ in found]), torch.cat([y for _, y in found]))
    return samples, samples.means(5)


@torch.no_grad()
def test_other_classes_are_described_by_the_samples_nearest_to_their_texts() -> None:
    method = gda(alpha=0.2)
    x = forward(method, names=OTHERS)
    texts, pool = x.zero_shot.text.double().numpy(), method.samples.double().numpy()
    inverses, means = [], []
    for text in texts:
        near = pool[np.argsort(-(pool @ text))[:7]]
        scatter = (near - text).T @ (near - text) / 6
        inverses.append(32 * np.linalg.inv(6 * scatter + np.trace(scatter) * np.eye(32)))
        means.append((near.sum(0) + 3 * text) / 10)
    precision = np.mean(inverses, axis=0)
    bias = [math.log(1 / 3) - m @ precision @ m / 2 for m in means]
    gaussian = x.image().double().numpy() @ (np.stack(means) @ precision).T + bias
    expected = x.zero_shot.logits.numpy() + 0.2 * gaussian
    np.testing.assert_allclose(method.route(x, UNSEEN).numpy(), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_seen_classes_are_known_by_their_texts_in_any_order_and_number() -> None:
    method = gda(alpha=0.2)
    scores = method.route(forward(method), SEEN)
    some = [small.NAMES[i] for i in (3, 0, 4)]
    loaded = build("gda-unseen", neighbours=7, text_repeats=3)
    loaded.load_state_dict(method.state_dict())
    torch.testing.assert_close(loaded.route(forward(loaded, names=some), SEEN), scores[:, [3, 0, 4]])


@torch.no_grad()
def test_classes_of_unknown_role_take_the_classifier_that_needs_no_images() -> None:
    method = gda(alpha=0.2)
    x = forward(method)
    torch.testing.assert_close(method.route(x, UNKNOWN), method.route(x, UNSEEN))
    assert not torch.allclose(method.route(x, UNKNOWN), method.route(x, SEEN))
