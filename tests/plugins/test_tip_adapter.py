from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests import small
from tests.plugins.few_shot import FewShots
from tests.plugins.prompt_methods import TEMPLATE, backbone, build, forward
from vlmadapt.core.adapter import load_adapter, save_adapter
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import IMAGE, SEEN, UNKNOWN, UNSEEN, DataError, Method

SMALL_GRID: dict[str, Any] = {
    "passes": 3,
    "alpha": 2.0,
    "beta": 3.0,
    "beta_steps": 7,
    "alpha_steps": 5,
    "max_alpha": 20.0,
}
UNEVEN = (4, 1, 3, 2, 2)
BOTH = pytest.mark.parametrize("name", ["tip-adapter", "tip-adapter-f"])


@torch.no_grad()
def prepared(name: str = "tip-adapter", support: dict[str, Any] | None = None, **options: Any) -> Any:
    method = build(name, **{**SMALL_GRID, **options})
    method.prepare(FewShots(method, shots=UNEVEN, **(support or {})))
    return method


@BOTH
def test_what_is_trained_are_the_keys_of_all_support_images(name: str) -> None:
    method = prepared(name)
    assert method.keys.shape == (sum(UNEVEN), 32)
    assert trainable_count(method) == (method.keys.numel() if name == "tip-adapter-f" else 0)


@torch.no_grad()
def test_scores_are_zero_shot_clip_and_a_vote_of_the_support_images() -> None:
    method = prepared(search=False)
    support = FewShots(method, shots=UNEVEN)
    passes = [torch.cat([x.features(IMAGE) for x in batches]) for batches in support.epochs(True, 3)]
    keys = F.normalize(torch.stack(passes).mean(dim=0), dim=-1)
    x = forward(method)
    expected = x.zero_shot.logits.clone()
    for image in range(4):
        for key, label in zip(keys, support.train[1], strict=True):
            expected[image, label] += 2.0 * torch.exp(-3.0 * (1 - x.image()[image] @ key))
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-3)


def test_with_weight_zero_the_cache_has_no_effect() -> None:
    method = prepared(search=False, alpha=0.0)
    x = forward(method)
    torch.testing.assert_close(method.route(x, UNKNOWN), x.zero_shot.logits, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_the_grid_is_searched_on_validation_images_and_the_first_best_is_taken() -> None:
    method = prepared()
    support = FewShots(method, shots=UNEVEN)
    best, found, accuracies = -1.0, (0.0, 0.0), set()
    for i in range(7):
        for j in range(5):
            beta, alpha = 0.1 + i * 6.9 / 7, 0.1 + j * 19.9 / 5
            method.beta.fill_(beta)
            method.alpha.fill_(alpha)
            right = sum(int((method.route(x, SEEN).argmax(1) == x.labels).sum()) for x in support.validation())
            accuracies.add(right)
            if right > best:
                best, found = right, (beta, alpha)
    assert len(accuracies) > 1, "the grid must matter here"
    searched = prepared()
    assert (float(searched.beta), float(searched.alpha)) == pytest.approx(found)


@BOTH
def test_without_validation_images_the_published_values_stay(name: str) -> None:
    method = prepared(name, {"held_out": (0, 0, 0, 0, 0)})
    method.finish(FewShots(method, held_out=(0, 0, 0, 0, 0)))
    assert (float(method.alpha), float(method.beta)) == (2.0, 3.0)


@torch.no_grad()
def test_a_cache_that_answers_no_validation_image_rightly_is_left_out() -> None:
    """With one point in the grid, whose answers are known, labels can be made that are none of them."""
    method = prepared(alpha_steps=1, beta_steps=1)
    support = FewShots(method, shots=UNEVEN)
    answers = torch.cat([method.route(x, SEEN).argmax(dim=1) for x in support.validation()])
    support.held_out = support.held_out[0], (answers + 1) % len(UNEVEN)
    method.search(support)
    assert (float(method.alpha), float(method.beta)) == (0.0, 0.0)


@torch.no_grad()
def test_before_a_step_of_training_both_are_the_same() -> None:
    free, tuned = prepared("tip-adapter"), prepared("tip-adapter-f")
    assert (float(tuned.alpha), float(tuned.beta)) == (2.0, 3.0)
    tuned.finish(FewShots(tuned))
    torch.testing.assert_close(free.state_dict(), tuned.state_dict())
    torch.testing.assert_close(free.route(forward(free), SEEN), tuned.route(forward(tuned), SEEN))


def test_an_optimiser_made_before_the_cache_trains_its_keys() -> None:
    method = build("tip-adapter-f", **SMALL_GRID)
    optimizer = torch.optim.AdamW(method.parameters(), lr=0.1)
    with torch.no_grad():
        method.prepare(FewShots(method))
    before = method.keys.detach().clone()
    (_, _, loss), = method.losses(forward(method))  # fmt: skip
    loss.backward()
    optimizer.step()
    assert not torch.allclose(method.keys, before)


@BOTH
def test_a_saved_cache_answers_as_before_and_refuses_other_classes(name: str, tmp_path: Path) -> None:
    method = prepared(name)
    save_adapter(tmp_path, name, method, backbone(), [TEMPLATE])
    loaded: Method
    loaded, _ = load_adapter(tmp_path, backbone(), ("otter", "comet"))
    with torch.no_grad():
        torch.testing.assert_close(loaded.route(forward(loaded), SEEN), method.route(forward(method), SEEN))
    with pytest.raises(DataError, match="knows the 5 classes"):
        loaded.route(forward(loaded, names=("otter", "comet")), UNKNOWN)
    with pytest.raises(DataError, match="5 unseen classes"):
        loaded.route(forward(loaded, names=small.NAMES), UNSEEN)


def test_a_state_that_lacks_something_is_still_refused() -> None:
    state = prepared().state_dict()
    del state["labels"]
    with pytest.raises(RuntimeError, match="labels"):
        build("tip-adapter").load_state_dict(state)
