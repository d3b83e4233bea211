from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import backbone, disturb, forward, published_count
from vlmadapt.core.method import total
from vlmadapt.plugin import SEEN, UNSEEN


def test_published_number_of_parameters() -> None:
    assert published_count("prolip") == 768 * 512


@torch.no_grad()
def test_before_training_it_is_zero_shot_clip() -> None:
    method = prepared("prolip")
    x = forward(method)
    torch.testing.assert_close(method.route(x, SEEN), x.zero_shot.logits, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 1 / 3), ({"shots_power": 2}, 1 / 9), ({"penalty": 0.7, "shots_power": 0}, 0.7)],
)
def test_lambda_falls_with_the_images_per_class(options: dict[str, Any], expected: float) -> None:
    assert float(prepared("prolip", **options).weight) == pytest.approx(expected)


def test_the_loss_pulls_the_projection_back_by_the_sum_of_squares() -> None:
    method = prepared("prolip")
    disturb(method.projection.difference)
    x = forward(method)
    moved = (method.projection() - backbone().image.projection).square().sum()
    expected = F.cross_entropy(method.route(x, SEEN), x.labels) + moved / 3
    torch.testing.assert_close(total(method.losses(x)), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_projection_acts_on_the_normed_token_and_serves_every_class() -> None:
    method = prepared("prolip")
    disturb(method.projection.difference)
    x = forward(method, names=("otter", "comet"))
    visual = backbone().model.visual
    projection, visual.proj = visual.proj, nn.Parameter(method.projection())
    features = F.normalize(backbone().model.encode_image(x.images), dim=-1)
    visual.proj = projection
    torch.testing.assert_close(method.route(x, UNSEEN), x.scale * features @ x.zero_shot.text.T, rtol=1e-4, atol=1e-3)


def test_the_backbone_keeps_its_own_projection() -> None:
    before = backbone().image.projection.clone()
    disturb(prepared("prolip").projection.difference)
    torch.testing.assert_close(backbone().image.projection, before)
