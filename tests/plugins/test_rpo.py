"""RPO."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from tests import small
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import IMAGE, TEXT, UNKNOWN, ForwardPass, Method, Task

TEMPLATES = ("a photo of a {}.",)
TASK = Task(small.NAMES, TEMPLATES)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(Path(tmp_path_factory.mktemp("clip")))


def forward(backbone: Backbone, method: Method, plan: str = "planned") -> ForwardPass:
    return Classifier(backbone, method, TEMPLATES, plan).forward(inputs(1, 3, 16), small.NAMES)


def test_published_count() -> None:
    assert trainable_count(build_method("rpo", untrained("ViT-B-16"), TASK)) == 30_720


@pytest.mark.parametrize("plan", ["planned", "reference"])
def test_the_tokens_only_read(backbone: Backbone, plan: str) -> None:
    """Every other feature is frozen CLIP's, and a token's output depends on no other token."""
    method = build_method("rpo", backbone, TASK, {"tokens": 3, "raw_names": False})
    x = forward(backbone, method, plan)
    torch.testing.assert_close(x.image(), x.zero_shot.image)
    torch.testing.assert_close(x.text(), x.zero_shot.text)
    with torch.no_grad():
        for name in ("text_tokens", "image_tokens"):
            method.get_parameter(name)[1] = 5.0
    y = forward(backbone, method, plan)
    for side in (TEXT, IMAGE):
        moved = (x.features(side, "pairs") - y.features(side, "pairs")).abs().amax(dim=(0, 2))
        assert (moved > 1e-3).tolist() == [False, True, False]


def test_pairs_are_averaged(backbone: Backbone) -> None:
    method = build_method("rpo", backbone, TASK, {"tokens": 2})
    x = forward(backbone, method)
    image, text = (F.normalize(x.features(side, "pairs"), dim=-1) for side in (IMAGE, TEXT))
    expected = x.scale * sum(image[:, k] @ text[:, k].T for k in range(2)) / 2
    torch.testing.assert_close(method.route(x, UNKNOWN), expected)


def test_tokens_start_near_what_they_replace(backbone: Backbone) -> None:
    method = build_method("rpo", backbone, TASK)
    for name, token in (
        ("text_tokens", backbone.text.end_token),
        ("image_tokens", backbone.image.leading_token),
    ):
        torch.testing.assert_close((method.get_parameter(name) - token).norm(dim=-1), torch.full((24,), 0.1))


def test_raw_names_change_only_names_with_underscores(backbone: Backbone) -> None:
    torch.manual_seed(0)
    method = build_method("rpo", backbone, TASK, {"raw_names": True})
    cleaned = build_method("rpo", backbone, TASK, {"raw_names": False})
    cleaned.load_state_dict(method.state_dict())
    apart = (forward(backbone, method).text() - forward(backbone, cleaned).text()).abs().amax(dim=-1)
    assert (apart > 1e-4).tolist() == ["_" in name for name in small.NAMES]
