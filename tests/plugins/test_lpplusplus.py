from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import StillTrainer, forward, published_count
from vlmadapt.plugin import SEEN

UNEVEN = (4, 1, 3, 2, 2)


@torch.no_grad()
def lp(**options: Any) -> Any:
    return prepared("lp++", {"shots": UNEVEN}, **options)


@torch.no_grad()
def support(method: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit features, labels and text features."""
    found = [(x.image(), x.labels) for x in next(FewShots(method, shots=UNEVEN).epochs(augmented=True))]
    text = forward(method).zero_shot.text
    return torch.cat([f for f, _ in found]), torch.cat([y for _, y in found]), text


def test_published_number_of_parameters() -> None:
    assert published_count("lp++") == 5 * (512 + 2)


def test_starts_and_step_sizes_follow_from_the_support_set() -> None:
    method = lp()
    f, y, text = support(method)
    cosines = [[float(a @ text[c]) for a in f[y == c]] for c in range(5)]
    alpha = 250 * sum(sum(own) / len(own) for own in cosines) / 5
    torch.testing.assert_close(method.weight.detach(), torch.stack([f[y == c].sum(0) for c in range(5)]))
    torch.testing.assert_close(method.alpha.detach(), torch.full((1, 5), alpha), rtol=1e-4, atol=1e-4)
    largest = torch.linalg.eigvalsh((f.T @ f).double())[-1]
    assert float(method.lr_weight) == pytest.approx(4 * len(f) / float(largest), rel=1e-4)
    assert float(method.lr_alpha) == pytest.approx(len(f) / (4 * float((f @ text.T).square().sum(0).max())), rel=1e-4)
    assert method.bias.abs().max() <= 1 / math.sqrt(32)


@torch.no_grad()
def test_scores_blend_the_probe_with_the_texts() -> None:
    method = lp()
    x = forward(method)
    expected = F.linear(x.image(), method.weight, method.bias) + method.alpha * (x.image() @ x.zero_shot.text.T)
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-4)


def test_a_step_gives_the_optimiser_gradients_times_the_step_size_and_leaves_alpha_alone() -> None:
    method, x = lp(), None
    x = forward(method)
    trainer = StillTrainer(method)
    method.training_step(x, trainer)
    expected = torch.autograd.grad(F.cross_entropy(method.route(x, SEEN), x.labels), [method.weight, method.bias])
    torch.testing.assert_close(trainer.applied[:2], [method.lr_weight * g for g in expected])
    assert trainer.applied[2] is None


@pytest.mark.parametrize("published", [False, True], ids=["present", "summed"])
def test_alpha_steps_every_few_epochs(published: bool) -> None:
    """Nothing else moves here, so the gradient is the same in each epoch."""
    method = lp(published=published, alpha_every=3, select=False)
    x, start = forward(method), method.alpha.detach().clone()
    (gradient,) = torch.autograd.grad(F.cross_entropy(method.route(x, SEEN), x.labels), [method.alpha])
    for epoch in range(5):
        method.epoch_start(epoch, 5)
        method.training_step(x, StillTrainer(method))
        method.epoch_end(epoch, 5)
        steps = (3 if published else 1) if epoch >= 2 else 0
        torch.testing.assert_close(method.alpha.detach(), start - steps * method.lr_alpha * gradient)


@torch.no_grad()
def test_the_last_of_the_best_epochs_on_the_validation_images_is_kept() -> None:
    method = lp()
    held = FewShots(method, shots=UNEVEN)
    perfect = 1e6 * (torch.linalg.pinv(method.held_features) @ torch.eye(5)[method.held_labels]).T
    for epoch, weight in enumerate([0 * perfect, perfect, 2 * perfect, -perfect]):
        method.weight.copy_(weight)
        method.epoch_end(epoch, 300)
    method.finish(held)
    assert float(method.best_accuracy) == 1
    torch.testing.assert_close(method.weight.data, 2 * perfect)
    assert len(method.held_features) == len(method.best_weight) == 0


@torch.no_grad()
def test_without_validation_images_the_last_epoch_stays() -> None:
    method = prepared("lp++", {"held_out": (0,) * 5})
    for epoch in range(2):
        method.weight.mul_(-2)
        method.epoch_end(epoch, 2)
    last = method.weight.clone()
    method.finish(FewShots(method, held_out=(0,) * 5))
    torch.testing.assert_close(method.weight.data, last)
