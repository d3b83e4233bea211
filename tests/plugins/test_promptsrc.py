"""PromptSRC."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import Method, Task

TASK = Task(small.NAMES, ("a photo of a {}.",))
SMALL = {"text_depth": 2, "image_depth": 3}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(Path(tmp_path_factory.mktemp("clip")))


def run(method: Method, epochs: int, start: int = 0) -> list[dict[str, Tensor]]:
    """Set all weights to random ones in each epoch; the weights before each end of an epoch."""
    seen = []
    for epoch in range(start, epochs):
        method.epoch_start(epoch, epochs)
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(epoch))
        seen.append({name: p.detach().clone() for name, p in method.named_parameters()})
        method.epoch_end(epoch, epochs)
    return seen


@pytest.mark.parametrize(("depth", "count"), [(9, 46_080), (3, 15_360)])
def test_published_count(depth: int, count: int) -> None:
    options = {"text_depth": depth, "image_depth": depth}
    assert trainable_count(build_method("promptsrc", untrained("ViT-B-16"), TASK, options)) == count


def test_depths_end_with_the_tower(backbone: Backbone) -> None:
    method = build_method("promptsrc", backbone, TASK, {"text_depth": 9, "image_depth": 9})
    names = [name for name, _ in method.named_parameters()]
    assert names == [f"{side}.{depth}" for side in ("contexts", "tokens") for depth in range(3)]


def test_without_image_tokens_images_are_frozen(backbone: Backbone) -> None:
    method = build_method("promptsrc", backbone, TASK, {"text_depth": 2, "image_depth": 0})
    x = Classifier(backbone, method, TASK.templates).forward(inputs(1, 2, 16), small.NAMES)
    assert [name for name, _ in method.named_parameters()] == ["contexts.0", "contexts.1"]
    torch.testing.assert_close(x.image(), x.zero_shot.image)
    assert not torch.allclose(x.text(), x.zero_shot.text, atol=1e-3)


def test_the_gaussian_average_takes_over(backbone: Backbone) -> None:
    method = build_method("promptsrc", backbone, TASK, {**SMALL, "average_mean": 2, "average_std": 1.5})
    seen = run(method, 3)
    shares = torch.softmax(-((torch.tensor([1.0, 2.0, 3.0]) - 2) ** 2) / (2 * 1.5**2), dim=0)
    for name, parameter in method.named_parameters():
        expected = sum(share * weights[name] for share, weights in zip(shares, seen, strict=True))
        torch.testing.assert_close(parameter, expected)


def test_the_average_survives_an_interruption(backbone: Backbone) -> None:
    options: dict[str, Any] = {**SMALL, "average_mean": 2, "average_std": 2}
    whole, first, second = (build_method("promptsrc", backbone, TASK, options) for _ in range(3))
    run(whole, 4)
    for epoch in range(2):
        first.epoch_start(epoch, 4)
        with torch.no_grad():
            for parameter in first.parameters():
                parameter.normal_(generator=torch.Generator().manual_seed(epoch))
        first.epoch_end(epoch, 4)
    second.load_state_dict(first.state_dict())
    run(second, 4, start=2)
    for mine, theirs in zip(second.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_without_averaging_the_last_weights_stay(backbone: Backbone) -> None:
    method = build_method("promptsrc", backbone, TASK, {**SMALL, "average_std": 0})
    last = run(method, 2)[-1]
    for name, parameter in method.named_parameters():
        assert torch.equal(parameter, last[name])
