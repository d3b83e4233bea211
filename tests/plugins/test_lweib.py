from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.plugins.prompt_methods import build, published_count
from vlmadapt.plugin import BackboneError
from vlmadapt_adapters.lweib import Convolution


def test_published_number_of_parameters() -> None:
    """12 * 9 * (768 + 3072) in the image tower but for the last MLP, 12 * 3 * (512 + 2048) in the text tower."""
    assert published_count("lweib") == 12 * 9 * 3840 - 9 * 3072 + 12 * 3 * 2560


def test_a_step_scores_the_classes_of_its_images_and_as_many_others_as_it_is_told() -> None:
    method = build("lweib", layers=[1], negatives=2)
    labels, seen = torch.tensor([7, 3, 7, 7]), set()
    for _ in range(20):
        classes, scored = method.draw_classes(labels, 20)
        assert len(set(classes.tolist())) == len(classes) == 12  # four different labels would need them all
        assert set(classes[:2].tolist()) == {3, 7}
        assert scored.tolist() == [True] * 6 + [False] * 6
        seen |= set(classes[2:6].tolist())
    assert len(seen) > 12
    method.config.negatives = -1
    assert method.draw_classes(labels, 20)[0].tolist() == list(range(20))


def test_filters_learn_as_if_their_scale_were_one_and_tokens_as_it_is() -> None:
    convolution, x = Convolution(2, 1).double(), torch.randn(3, 5, 2, dtype=torch.float64, requires_grad=True)

    def gradients(scale: float) -> tuple[Any, ...]:
        out = convolution(torch.tensor(scale, dtype=torch.float64), x)
        return out.detach(), *torch.autograd.grad(out.square().sum() / scale, [convolution.weight, x])

    (out, weight, tokens), (scaled, scaled_weight, scaled_tokens) = gradients(1.0), gradients(0.1)
    torch.testing.assert_close(scaled, 0.1 * out)
    torch.testing.assert_close(scaled_weight, weight)
    torch.testing.assert_close(scaled_tokens, 0.1 * tokens)


def test_each_block_of_each_tower_is_slow_or_fast_by_itself() -> None:
    method = build("lweib", layers=[1], slow_share=0.5, scale=0.1, fast=3.0)
    scales = torch.stack([method.draw_scales(4) for _ in range(20)])
    assert set(scales.flatten().tolist()) == set(torch.tensor([0.1, 0.1 * 3.0]).tolist())
    assert len({tuple(draw.flatten().tolist()) for draw in scales}) > 10


def test_a_block_that_is_not_there_is_refused_in_a_sentence() -> None:
    with pytest.raises(BackboneError, match=r"block 4 \(counted from 1\) is used, .* has 3"):
        build("lweib")
