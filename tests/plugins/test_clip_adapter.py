from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.plugins.prompt_methods import backbone, build, disturb, forward, published_count
from vlmadapt.plugin import IMAGE, SEEN, TEXT, UNSEEN, DataError


def test_published_number_of_parameters() -> None:
    assert published_count("clip-adapter") == 131_072
    assert published_count("clip-adapter", text_ratio=0.2) == 2 * 131_072


def test_without_the_adapter_it_is_zero_shot_clip() -> None:
    method = build("clip-adapter", ratio=0.0)
    x = forward(method)
    torch.testing.assert_close(method.route(x, SEEN), x.zero_shot.logits)


def blended(adapter: nn.Module, features: Tensor, ratio: float) -> Tensor:
    """The published equation, on features that are not normalised."""
    first, second = adapter.parameters()
    return ratio * (second @ (first @ features.T).clamp(min=0)).clamp(min=0).T + (1 - ratio) * features


@pytest.mark.parametrize("text_ratio", [0.0, 0.6])
def test_it_is_the_blend_of_unnormalised_features(text_ratio: float) -> None:
    method = build("clip-adapter", ratio=0.4, text_ratio=text_ratio)
    disturb(*method.parameters())
    x = forward(method)
    image, text = blended(method.image, x.features(IMAGE), 0.4), x.features(TEXT)
    if text_ratio:
        text = blended(method.text, text, text_ratio)
    expected = 100 * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-3)


def test_it_answers_for_classes_it_has_not_seen_and_touches_no_tower() -> None:
    method = build("clip-adapter")
    x = forward(method, names=("otter", "comet"))
    assert method.route(x, UNSEEN).shape == (4, 2)
    assert x.plan.image.first == backbone().image.depth
    assert not x.features(IMAGE).requires_grad


def test_it_runs_on_towers_that_cannot_be_touched() -> None:
    from vlmadapt.core.loading import untrained

    rn50 = untrained("RN50")
    method = build("clip-adapter", on=rn50)
    assert sum(p.numel() for p in method.parameters()) == 2 * 1024 * 256


def test_a_bottleneck_without_room_is_refused() -> None:
    with pytest.raises(DataError, match="joint width 32"):
        build("clip-adapter", reduction=33)
