"""The base class of methods, its loss and its defaults."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests import small
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import LossTerm, Method, Task, total, trainable_count
from vlmadapt.core.templates import Template
from vlmadapt.errors import BackboneError, PluginError
from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN, Role

TASK = Task(small.NAMES, ("a photo of a {}.",))


@dataclass
class Options:
    """Options."""

    start: float = 0.5


class Plain(Method):
    """A method that scales nothing."""

    Config = Options

    def build(self, backbone: Backbone, task: Task) -> None:
        self.weight = nn.Parameter(torch.full((2, 3), self.config.start))
        self.register_buffer("seen", torch.zeros(7))
        self.frozen = nn.Parameter(torch.zeros(11), requires_grad=False)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def fwd(backbone: Backbone) -> ForwardPass:
    method = Plain(Options(), backbone, TASK)
    labels = torch.tensor([4, 0, 2])
    templates = [Template.parse(TASK.templates[0])]
    return ForwardPass(Engine(backbone), method, small.NAMES, templates, inputs(1, 3, 16), labels)


class Steps:
    """A trainer that notes what it was given."""

    lr = 0.0

    def __init__(self) -> None:
        self.losses: list[torch.Tensor] = []

    def backward_and_step(self, loss: torch.Tensor) -> None:
        self.losses.append(loss)


# -- the loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    a, b = torch.tensor(2.0, requires_grad=True), torch.tensor(10.0, requires_grad=True)
    loss = total([LossTerm("a", 1.0, a), LossTerm("b", 0.25, b), LossTerm("logged", 0.0, torch.tensor(7.0))])
    assert float(loss.detach()) == 4.5
    loss.backward()  # type: ignore[no-untyped-call]
    assert (float(a.grad), float(b.grad)) == (1.0, 0.25)  # type: ignore[arg-type]


def test_a_generator_and_plain_tuples_are_terms_too() -> None:
    """Plugin API 1 yields `name, weight, value`."""
    assert float(total(("a", 2.0, torch.tensor(v)) for v in (1.0, 3.0))) == 8.0  # type: ignore[misc]
    name, weight, value = LossTerm("a", 2.0, torch.tensor(1.0))
    assert (name, weight, float(value)) == ("a", 2.0, 1.0)


def test_a_single_term_is_its_own_sum() -> None:
    assert float(total([LossTerm("a", 0.5, torch.tensor(3.0))])) == 1.5


def test_no_terms_are_refused() -> None:
    with pytest.raises(PluginError, match="`losses` yields no term"):
        total([])


# -- defaults ---------------------------------------------------------------------------------------------------------


def test_by_default_the_cross_entropy_is_minimised_in_one_step(fwd: ForwardPass) -> None:
    method, trainer = fwd._method, Steps()
    assert isinstance(method, Plain)
    expected = F.cross_entropy(fwd.logits(), fwd.labels)
    (term,) = method.training_step(fwd, trainer)  # type: ignore[arg-type]
    assert (term.name, term.weight) == ("ce", 1.0)
    torch.testing.assert_close(term.value, expected)
    assert [float(loss) for loss in trainer.losses] == [float(expected)]


@pytest.mark.parametrize("role", list(Role))
def test_by_default_clips_logits_answer_for_every_role(fwd: ForwardPass, role: Role) -> None:
    assert isinstance(fwd._method, Plain)
    assert torch.equal(fwd._method.route(fwd, role), fwd.logits())


def test_by_default_nothing_is_touched_and_unseen_classes_are_answered(backbone: Backbone) -> None:
    method = Plain(Options(), backbone, TASK)
    assert list(method.hooks()) == []
    assert method.answers_unseen
    assert not method.whole_batch


def test_roles_are_words() -> None:
    assert [str(role) for role in (SEEN, UNSEEN, UNKNOWN)] == ["seen", "unseen", "unknown"]


# -- building ---------------------------------------------------------------------------------------------------------


def test_a_method_is_built_with_its_options(backbone: Backbone) -> None:
    method = Plain(Options(start=2.0), backbone, TASK)
    assert method.config == Options(start=2.0)
    assert torch.equal(method.weight, torch.full((2, 3), 2.0))


def test_only_what_is_trained_counts(backbone: Backbone) -> None:
    assert trainable_count(Plain(Options(), backbone, TASK)) == 6


def test_a_backbone_that_does_not_open_a_touched_tower_is_refused_before_building(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Never(Plain):
        """Touches both towers."""

        def build(self, backbone: Backbone, task: Task) -> None:
            pytest.fail("it was built")

    monkeypatch.setattr(backbone.image, "blocks", ())
    with pytest.raises(BackboneError, match="works inside the image tower, but this backbone's is a VisionTransformer"):
        Never(Options(), backbone, TASK)


class OfApi1(Plain):
    """Written for plugin API 1."""

    def losses(self, x: ForwardPass) -> Iterable[tuple[str, float, torch.Tensor]]:  # type: ignore[override]
        yield "class", 1.0, F.cross_entropy(x.logits("class"), x.labels)


def test_losses_of_plugin_api_1_still_train(fwd: ForwardPass, backbone: Backbone) -> None:
    trainer = Steps()
    with pytest.warns(DeprecationWarning, match="the head 'class'"):
        (term,) = OfApi1(Options(), backbone, TASK).training_step(fwd, trainer)  # type: ignore[arg-type]
    assert term[0] == "class"
    torch.testing.assert_close(trainer.losses[0], F.cross_entropy(fwd.logits(), fwd.labels))
