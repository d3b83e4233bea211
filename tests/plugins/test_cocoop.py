from __future__ import annotations

import torch

from tests.parity.tiny_clip import inputs
from tests.plugins.prompt_methods import build, forward, published_count


def test_published_parameter_count() -> None:
    assert published_count("cocoop") == 35_360


def test_without_a_shift_it_is_coop() -> None:
    cocoop, coop = build("cocoop"), build("coop", words="a photo of a")
    torch.nn.init.zeros_(cocoop.meta_net[2].weight)
    torch.nn.init.zeros_(cocoop.meta_net[2].bias)
    torch.testing.assert_close(forward(cocoop).logits(), forward(coop).logits(), rtol=1e-5, atol=1e-4)


def test_an_image_is_answered_alone() -> None:
    """Text features belong to their image: no other image of the batch changes a score."""
    method, images = build("cocoop", words="", tokens=3, reduction=2), inputs(1, 4, 16)
    together = forward(method, images=images)
    alone = torch.cat([forward(method, images=image[None]).logits() for image in images])
    assert together.text().shape[:2] == (4, len(together.names))
    assert not torch.allclose(together.text()[0], together.text()[1], atol=1e-4)
    torch.testing.assert_close(together.logits(), alone, rtol=1e-4, atol=1e-3)
