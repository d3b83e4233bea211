"""PLOT++."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
from vlmadapt.errors import DataError
from vlmadapt.plugin import IMAGE, TEXT, UNKNOWN, ForwardPass, Method, Task, total

TEMPLATES = ("a photo of a {}.",)
TASK = Task(small.NAMES, TEMPLATES)
LABELS = torch.tensor([0, 3, 1])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(Path(tmp_path_factory.mktemp("clip")))


def forward(backbone: Backbone, method: Method) -> ForwardPass:
    return Classifier(backbone, method, TEMPLATES).forward(inputs(1, 3, 16), small.NAMES, LABELS)


def trained(backbone: Backbone, method: Method) -> list[str]:
    """The parameters that the loss depends on."""
    loss = total(method.losses(forward(backbone, method)))
    gradients = torch.autograd.grad(loss, list(method.parameters()), allow_unused=True)
    return [name for (name, _), g in zip(method.named_parameters(), gradients, strict=True) if g is not None]


def test_published_count() -> None:
    assert trainable_count(build_method("plot++", untrained("ViT-B-16"), TASK)) == 14_336


def test_one_pass_and_one_text_are_plain_cosines(backbone: Backbone) -> None:
    options: dict[str, Any] = {"starts": ["a photo of a"], "image_sets": 1, "stage": "joint"}
    method = build_method("plot++", backbone, TASK, options)
    x = forward(backbone, method)
    torch.testing.assert_close(method.route(x, UNKNOWN), x.logits())


def test_much_entropy_averages_all_pairs(backbone: Backbone) -> None:
    method = build_method("plot++", backbone, TASK, {"eps": 1e5, "stage": "joint"})
    x = forward(backbone, method)
    image, text = (F.normalize(x.features(side), dim=-1) for side in (IMAGE, TEXT))
    expected = x.scale * image.mean(1) @ text.mean(0).T
    torch.testing.assert_close(method.route(x, UNKNOWN), expected, rtol=1e-3, atol=1e-3)


def test_stages(backbone: Backbone) -> None:
    """Image tokens alone with the plain logits, then both without them."""
    method = build_method("plot++", backbone, TASK)
    for epoch, names in ((0, ["tokens"]), (1, ["tokens"]), (2, ["context", "tokens"]), (4, ["context", "tokens"])):
        method.epoch_start(epoch, 5)
        assert trained(backbone, method) == names
    x = forward(backbone, method)
    joint = method.route(x, UNKNOWN)
    image, text = (F.normalize(x.features(side).mean(dim), dim=-1) for side, dim in ((IMAGE, 1), (TEXT, 0)))
    method.epoch_start(0, 5)
    alone = method.route(forward(backbone, method), UNKNOWN)
    torch.testing.assert_close(alone - joint, x.scale * image @ text.T, rtol=1e-4, atol=1e-3)


def test_two_runs_are_the_two_stages(backbone: Backbone) -> None:
    """A second run starts from what the first saved, and trains everything."""
    first, second = (build_method("plot++", backbone, TASK, {"stage": stage}) for stage in ("image", "joint"))
    assert trained(backbone, first) == ["tokens"]
    second.load_state_dict(first.state_dict())
    second.epoch_start(0, 5)
    assert trained(backbone, second) == ["context", "tokens"]


def test_a_short_start_takes_tokens_of_the_class_name(backbone: Backbone) -> None:
    """Every sequence has as many vectors as the first start text has words, whatever they replace."""
    method = build_method("plot++", backbone, TASK, {"starts": ["a photo of a", "this is a"], "stage": "joint"})
    torch.testing.assert_close(method.get_parameter("context")[1, 3], backbone.text.end_token)
    shorter = build_method("plot++", backbone, TASK, {"starts": ["a photo of a", "a"], "stage": "joint"})
    padded = backbone.text.embeddings("a")[1:5]  # the word, end of text and padding
    torch.testing.assert_close(shorter.get_parameter("context")[1], padded)
    assert not torch.equal(padded[2], padded[1])
    rows = [
        template.write(["cat", "Boeing 737-800"], backbone.text) for template in forward(backbone, method).plan.prompts
    ]
    assert all(row.context.tolist() == [[1, 2, 3, 4]] * 2 for row in rows)
    assert (rows[0].end - rows[1].end).tolist() == [1, 1]


def test_a_start_far_too_short_is_refused(backbone: Backbone) -> None:
    method = build_method("plot++", backbone, TASK, {"starts": ["one two three four five six seven", "a"]})
    with pytest.raises(DataError, match="shorter than the 7 vectors"):
        Classifier(backbone, method, TEMPLATES).forward(inputs(1, 1, 16), ["cat"]).text()
