"""A classifier scores the given classes in their order, or refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests import small
from tests.core.hook_shapes import Synthetic, first_in_both
from tests.parity.tiny_clip import inputs
from tests.plugins.few_shot import FewShots
from tests.plugins.prompt_methods import TEMPLATE, backbone
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task
from vlmadapt.errors import DataError, PluginError
from vlmadapt.plugin import IMAGE, MLP, adapt, prompt, teacher
from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN

KNOWING = {"coop": {"per_class": True, "tokens": 2}, "linear-probe": {}, "tip-adapter": {}, "tip-adapter-f": {}}


def knowing_its_classes(method: str) -> tuple[Classifier, Tensor]:
    """A method that cannot score other classes, and images to score."""
    torch.manual_seed(3)
    built = build_method(method, backbone(), Task(small.NAMES, (TEMPLATE,)), KNOWING[method])
    with torch.no_grad():
        built.prepare(FewShots(built))
    return Classifier(backbone(), built, (TEMPLATE,)), inputs(1, 4, 16)


@pytest.mark.parametrize("method", KNOWING)
def test_classes_in_another_order_get_the_same_answers(method: str) -> None:
    """A method that knows only its own classes scores them in its own order, whatever the order of the columns."""
    classifier, images = knowing_its_classes(method)
    expected = classifier.scores(images, small.NAMES, SEEN)
    order = [3, 0, 4, 2, 1]
    found = classifier.scores(images, [small.NAMES[i] for i in order], SEEN)
    torch.testing.assert_close(found, expected[:, order])
    some = classifier.scores(images, [small.NAMES[4], small.NAMES[1]], UNKNOWN)
    torch.testing.assert_close(some, expected[:, [4, 1]])


@pytest.mark.parametrize("method", KNOWING)
def test_two_classes_with_one_name_keep_their_own_columns(method: str) -> None:
    """As 'missile' and 'sunglasses' of ImageNet, each of which names two classes."""
    classifier, images = knowing_its_classes(method)
    expected = classifier.scores(images, small.NAMES, SEEN)
    classifier.method.trained_classes = names = ("crane", "dog", "crane", "owl", "hen")
    fwd = classifier.forward(images, names)
    in_order = classifier.method.route(fwd, SEEN).float()
    assert not torch.allclose(expected[:, 0], expected[:, 2])
    torch.testing.assert_close(classifier.scores(images, names, SEEN), in_order)
    moved = classifier.scores(images, ("owl", "crane", "crane", "hen", "dog"), SEEN)
    torch.testing.assert_close(moved, in_order[:, [3, 0, 2, 4, 1]])
    torch.testing.assert_close(classifier.scores(images, ("hen", "crane"), UNKNOWN), in_order[:, [4, 0]])


@pytest.mark.parametrize("method", KNOWING)
def test_other_classes_are_refused(method: str) -> None:
    classifier, images = knowing_its_classes(method)
    for names, role in ((["dog", "cat", "fish", "tree", "owl"], UNKNOWN), (small.NAMES, UNSEEN)):
        with pytest.raises(DataError, match="knows only the 5 classes it was trained on"):
            classifier.scores(images, names, role)


def test_a_method_that_reads_names_answers_for_any(prompted: Classifier) -> None:
    images = inputs(1, 4, 16)
    expected = prompted.scores(images, small.NAMES, SEEN)
    reversed_names = small.NAMES[::-1]
    torch.testing.assert_close(prompted.scores(images, reversed_names, UNSEEN), expected.flip(1))
    assert prompted.scores(images, ("dog", "owl"), UNSEEN).shape == (4, 2)


@pytest.fixture
def prompted() -> Classifier:
    built = build_method("coop", backbone(), Task(small.NAMES, (TEMPLATE,)), {"tokens": 2})
    return Classifier(backbone(), built, (TEMPLATE,))


TEMPLATES = (TEMPLATE,)


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


def test_scores_are_given_in_evaluation_mode_without_gradients(small_clip: Backbone) -> None:
    dropout = nn.Dropout(0.5)
    method = Synthetic(small_clip, lambda m: [adapt(IMAGE, 1, dropout, MLP)]).float()
    method.dropout = dropout
    classifier, images = Classifier(small_clip, method.train(), TEMPLATES), inputs(1, 3, 16)
    first = classifier.scores(images, small.NAMES, SEEN)
    assert not method.training
    assert torch.equal(first, classifier.scores(images, small.NAMES, SEEN)), "dropout draws nothing"
    assert first.is_inference()
    assert first.shape == (3, len(small.NAMES))


def test_scores_are_float32_under_autocast(small_clip: Backbone) -> None:
    method = Synthetic(small_clip, first_in_both).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = Classifier(small_clip, method, TEMPLATES).scores(inputs(1, 3, 16), small.NAMES, SEEN)
    assert scores.dtype == torch.float32


def test_other_templates_describe_the_same_method(small_clip: Backbone) -> None:
    method = Synthetic(small_clip, first_in_both).float()
    one = Classifier(small_clip, method, TEMPLATES, plan="reference", class_chunk=2)
    other = one.with_templates(("a drawing of a {}.",))
    assert other.method is method
    assert other._settings == one._settings == ("reference", 2, None)
    images = inputs(1, 3, 16)
    expected = Classifier(small_clip, method, ("a drawing of a {}.",)).scores(images, small.NAMES, SEEN)
    torch.testing.assert_close(other.scores(images, small.NAMES, SEEN), expected, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(one.scores(images, small.NAMES, SEEN), expected)


def test_hooks_that_cannot_be_are_refused_before_any_work(small_clip: Backbone) -> None:
    with pytest.raises(PluginError, match="no tokens go to CONTEXT"):
        Classifier(small_clip, Synthetic(small_clip, lambda m: [prompt("[2] {}.")]), TEMPLATES)


@pytest.mark.parametrize("method", ["coop", "tip-adapter"])
def test_zero_shot_scores_are_those_of_the_frozen_backbone(method: str) -> None:
    """Whatever classes the method knows, and next to its own scores, which do not change."""
    classifier, images = knowing_its_classes(method)
    names = small.NAMES[::-1]
    plain = build_method("clip", backbone(), Task(small.NAMES, (TEMPLATE,)), {})
    expected = Classifier(backbone(), plain, (TEMPLATE,)).scores(images, names, SEEN)
    scores, zero_shot = classifier.scores_and_zero_shot(images, names, SEEN)
    torch.testing.assert_close(zero_shot, expected)
    torch.testing.assert_close(scores, classifier.scores(images, names, SEEN))


def test_zero_shot_scores_leave_out_the_hooks_and_the_teacher_of_the_method(small_clip: Backbone) -> None:
    declared = Synthetic(small_clip, lambda m: [*first_in_both(m), teacher("a sketch of {}.")]).float()
    classifier, images = Classifier(small_clip, declared, TEMPLATES), inputs(1, 3, 16)
    plain = Synthetic(small_clip, lambda m: []).float()
    expected = Classifier(small_clip, plain, TEMPLATES).scores(images, small.NAMES, SEEN)
    scores, zero_shot = classifier.scores_and_zero_shot(images, small.NAMES, SEEN)
    torch.testing.assert_close(zero_shot, expected)
    assert not torch.allclose(scores, expected)
