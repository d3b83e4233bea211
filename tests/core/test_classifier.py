"""A method that answers: in evaluation mode, in float32, without anything that can be trained on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests import small
from tests.core.hook_shapes import Synthetic, first_in_both
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import SEEN
from vlmadapt.errors import PluginError
from vlmadapt.plugin import IMAGE, MLP, adapt, prompt

TEMPLATES = ("a photo of a {}.",)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


def test_scores_are_given_in_evaluation_mode_without_gradients(backbone: Backbone) -> None:
    dropout = nn.Dropout(0.5)
    method = Synthetic(backbone, lambda m: [adapt(IMAGE, 1, dropout, MLP)]).float()
    method.dropout = dropout
    classifier, images = Classifier(backbone, method.train(), TEMPLATES), inputs(1, 3, 16)
    first = classifier.scores(images, small.NAMES, SEEN)
    assert not method.training
    assert torch.equal(first, classifier.scores(images, small.NAMES, SEEN)), "dropout draws nothing"
    assert first.is_inference()
    assert first.shape == (3, len(small.NAMES))


def test_scores_are_float32_under_autocast(backbone: Backbone) -> None:
    method = Synthetic(backbone, first_in_both).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = Classifier(backbone, method, TEMPLATES).scores(inputs(1, 3, 16), small.NAMES, SEEN)
    assert scores.dtype == torch.float32


def test_other_templates_describe_the_same_method(backbone: Backbone) -> None:
    method = Synthetic(backbone, first_in_both).float()
    one = Classifier(backbone, method, TEMPLATES, plan="reference", class_chunk=2)
    other = one.with_templates(("a drawing of a {}.",))
    assert other.method is method
    assert other._plan == one._plan == ("reference", 2)
    images = inputs(1, 3, 16)
    expected = Classifier(backbone, method, ("a drawing of a {}.",)).scores(images, small.NAMES, SEEN)
    torch.testing.assert_close(other.scores(images, small.NAMES, SEEN), expected, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(one.scores(images, small.NAMES, SEEN), expected)


def test_hooks_that_cannot_be_are_refused_before_any_work(backbone: Backbone) -> None:
    with pytest.raises(PluginError, match="no tokens go to CONTEXT"):
        Classifier(backbone, Synthetic(backbone, lambda m: [prompt("[2] {}.")]), TEMPLATES)
