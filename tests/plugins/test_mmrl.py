"""MMRL and MMRL++."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests import small
from tests.parity import tiny_clip
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import SEEN, UNKNOWN, UNSEEN, ForwardPass, Method, Role, Task

TEMPLATES = ("a photo of a {}.",)
TASK = Task(small.NAMES, TEMPLATES)
BOTH = pytest.mark.parametrize("name", ["mmrl", "mmrl++"])
SMALL: dict[str, Any] = {"layers": [2, 3], "width": 16, "tokens": 2}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(Path(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Two text blocks, three image blocks."""
    return tiny_clip.load(tmp_path_factory.mktemp("clip") / "uneven", {**small.SETTINGS, "text_layers": 2})


def forward(backbone: Backbone, method: Method) -> ForwardPass:
    labels = torch.tensor([0, 1, 2])
    return Classifier(backbone, method, TEMPLATES).forward(tiny_clip.inputs(1, 3, 16), small.NAMES, labels)


def terms(backbone: Backbone, method: Method) -> dict[str, tuple[float, Tensor]]:
    return {name: (weight, value) for name, weight, value in method.losses(forward(backbone, method))}


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("mmrl", {}, 4_992_256),
        ("mmrl", {"width": 32}, 689_056),
        ("mmrl", {"width": 2048}, 18_762_496),
        ("mmrl++", {}, 813_312),
    ],
)
def test_published_count(name: str, options: dict[str, Any], count: int) -> None:
    assert trainable_count(build_method(name, untrained("ViT-B-16"), TASK, options)) == count


@BOTH
def test_official_start(backbone: Backbone, name: str) -> None:
    """The maps of a tower start alike; MMRL++ starts at CLIP's own projection."""
    method = build_method(name, backbone, TASK, {**SMALL, "tokens": 400})
    assert abs(float(method.get_parameter("space").detach().std()) - 0.02) < 2e-3
    for tokens in method.tokens():
        torch.testing.assert_close(tokens[0], tokens[1])
    tokens = torch.randn(3, backbone.image.width)
    at_clip = torch.equal(method.project_representation(tokens), backbone.image.project(tokens))
    assert at_clip == (name == "mmrl++")
    if name == "mmrl":
        assert abs(float(method.get_parameter("projection").detach().std()) / 64**-0.5 - 1) < 0.1


@BOTH
def test_tokens_for_a_block_that_one_tower_lacks_enter_the_other(uneven: Backbone, name: str) -> None:
    method = build_method(name, uneven, TASK, SMALL)
    x = forward(uneven, method)
    last = method.get_parameter("to_image.maps.1.bias" if name == "mmrl" else "to_image.biases.1")
    lost = method.get_parameter("to_text.maps.1.bias" if name == "mmrl" else "to_text.biases.1")
    assert torch.autograd.grad(x.image().sum(), last, retain_graph=True)[0].abs().max() > 0
    assert not torch.autograd.grad(x.text().sum(), lost)[0].any()


@BOTH
@pytest.mark.parametrize(
    ("option", "kept"),
    [
        ({"text_tokens": False}, {"ce": 0.7, "representation": 0.3, "image": 2.0}),
        ({"image_tokens": False}, {"ce": 1.0, "text": 2.0}),
        ({"alpha": 0.0}, {"ce": 0.0, "representation": 1.0, "image": 2.0, "text": 2.0}),
    ],
)
def test_the_terms_that_are_left(backbone: Backbone, name: str, option: dict[str, Any], kept: dict[str, float]) -> None:
    method = build_method(name, backbone, TASK, {**SMALL, "reg_weight": 2.0, **option})
    assert {term: weight for term, (weight, _) in terms(backbone, method).items()} == pytest.approx(kept)


@BOTH
def test_spaces(backbone: Backbone, name: str) -> None:
    """Which tokens each tower's own depend on."""
    for space, of_text, of_image in (
        ("shared", {"space"}, {"space"}),
        ("separate", {"space"}, {"image_space"}),
        ("text-to-image", {"space", "to_text"}, {"space", "to_text"}),
    ):
        method = build_method(name, backbone, TASK, {**SMALL, "space": space})
        for tokens, expected in zip(method.tokens(), (of_text, of_image), strict=True):
            gradients = torch.autograd.grad(
                torch.stack(tokens).sum(), list(method.parameters()), retain_graph=True, allow_unused=True
            )
            named = zip((n.split(".")[0] for n, _ in method.named_parameters()), gradients, strict=True)
            found = {n for n, gradient in named if gradient is not None}
            assert expected <= found, space
            assert found & {"space", "image_space"} == expected & {"space", "image_space"}, space


@BOTH
@pytest.mark.parametrize(
    ("options", "fused"),
    [
        ({}, {SEEN}),
        ({"routing": "class"}, set()),
        ({"routing": "fused"}, {SEEN, UNSEEN, UNKNOWN}),
        ({"unknown": "fused"}, {SEEN, UNKNOWN}),
    ],
)
def test_routing(backbone: Backbone, name: str, options: dict[str, Any], fused: set[Role]) -> None:
    method = build_method(name, backbone, TASK, {**SMALL, **options})
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        x = forward(backbone, method)
        mixed = 0.7 * x.logits() + 0.3 * x.logits("representation")
        for role in Role:
            torch.testing.assert_close(method.route(x, role), mixed if role in fused else x.logits())


@BOTH
def test_fused_probabilities_are_those_of_the_paper(backbone: Backbone, name: str) -> None:
    method = build_method(name, backbone, TASK, {**SMALL, "fusion": "probabilities"})
    x = forward(backbone, method)
    paper = 0.7 * x.logits().softmax(-1) + 0.3 * x.logits("representation").softmax(-1)
    torch.testing.assert_close(method.route(x, SEEN).softmax(-1), paper)


@BOTH
@pytest.mark.parametrize("regulariser", ["cosine", "l1", "mse"])
def test_regularisers(backbone: Backbone, name: str, regulariser: str) -> None:
    method = build_method(name, backbone, TASK, {**SMALL, "regulariser": regulariser})
    x = forward(backbone, method)
    found = terms(backbone, method)
    for side, ours, frozen in (("image", x.image(), x.zero_shot.image), ("text", x.text(), x.zero_shot.text)):
        expected = {
            "cosine": (1 - (ours * frozen).sum(-1)).mean(),
            "l1": (ours - frozen).abs().mean(),
            "mse": (ours - frozen).square().mean(),
        }
        torch.testing.assert_close(found[side][1], expected[regulariser])
