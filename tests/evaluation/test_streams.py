"""Methods whose answers depend on earlier test images: one order, one answer, whatever the processes and batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor

from tests import small
from vlmadapt import Backbone
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task
from vlmadapt.data.dataset import Example
from vlmadapt.data.loader import derived_seed
from vlmadapt.data.splits import ClassGroup
from vlmadapt.errors import PluginError, VlmadaptError
from vlmadapt.evaluation import accuracy
from vlmadapt.evaluation.accuracy import Predictions, predict_group
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.plugin import ForwardPass, Method, Recipe, Role
from vlmadapt.roles import SEEN
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.session import Session


@dataclass
class Options:
    """Options."""


class Counts(Method):
    """Answers the n-th image of a stream with class n modulo the number of classes."""

    Config = Options
    recipe = Recipe(epochs=0)
    touches = ()
    api_version = 2
    streams = True
    seen: Tensor

    def stream_start(self, names: Sequence[str], role: Role) -> None:
        self.register_buffer("seen", torch.zeros((), dtype=torch.long), persistent=False)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        numbers = self.seen + torch.arange(len(fwd.images))
        self.seen += len(fwd.images)
        return torch.nn.functional.one_hot(numbers % len(fwd.names), len(fwd.names)).float()


class Hidden(Counts):
    """Does so without saying it."""

    streams = False

    def build(self, backbone: Backbone, task: Task) -> None:
        self.stream_start(task.classes, SEEN)


class Memo(Counts):
    """Keeps something it has computed."""

    streams = False
    kept: Tensor | None = None

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        self.kept = torch.ones(1) if self.kept is None else self.kept
        return fwd.logits() * self.kept


class OneOf:
    """One of several processes, of which the test runs each in turn."""

    def __init__(self, rank: int, world: int):
        self.process_index, self.num_processes, self.is_main_process = rank, world, rank == 0

    def reduce(self, tensor: Tensor, how: str) -> Tensor:
        return tensor


def classifier(small_clip: Backbone, method: type[Method]) -> Classifier:
    built = method(Options(), small_clip, Task(small.NAMES, ("a photo of a {}.",)))
    return Classifier(small_clip, built, ("a photo of a {}.",))


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> ClassGroup:
    folder = tmp_path_factory.mktemp("stream")
    examples = []
    for i in range(13):
        Image.new("RGB", (16, 16), (19 * i, 200 - 9 * i, 77)).save(folder / f"{i}.png")
        examples.append(Example(folder / f"{i}.png", i % 5))
    return ClassGroup("all", SEEN, small.NAMES, tuple(examples))


def predicted(classifier: Classifier, group: ClassGroup, seed: int = 1, rank: int = 0, world: int = 1) -> Predictions:
    session = Session(cast(Accelerator, OneOf(rank, world)), Reporter(False), workers=0)
    return predict_group(classifier, group, session, seed=seed)


def test_the_seed_draws_the_order_and_nothing_else_changes_it(
    small_clip: Backbone, group: ClassGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = classifier(small_clip, Counts)
    expected = predicted(counts, group).predicted
    order = torch.randperm(13, generator=torch.Generator().manual_seed(derived_seed(1)))
    assert torch.equal(expected[order], torch.arange(13) % 5), "the first image of the order is answered with class 0"
    assert not torch.equal(predicted(counts, group, seed=2).predicted, expected)
    first, second = (predicted(counts, group, rank=rank, world=2).predicted for rank in range(2))
    assert torch.equal(first + second, expected), "two processes answer as one does"
    monkeypatch.setattr(accuracy, "BATCH", 3)
    assert torch.equal(predicted(counts, group).predicted, expected)


def test_a_method_that_hides_its_stream_is_refused(small_clip: Backbone, group: ClassGroup) -> None:
    with pytest.raises(PluginError, match=r"Hidden changes while it is tested.*`streams = True`"):
        predicted(classifier(small_clip, Hidden), group)


def test_a_method_may_keep_what_it_has_computed(small_clip: Backbone, group: ClassGroup) -> None:
    answers = predicted(classifier(small_clip, Memo), group)
    assert answers.predicted.shape == (13,)


def test_a_stream_is_saved_and_continued(small_clip: Backbone, group: ClassGroup, tmp_path: Path) -> None:
    files = [example.path for example in group.examples]
    whole = [best[0][0] for best in Predictor(classifier(small_clip, Counts), small.NAMES, SEEN).predict(files)]
    parts: list[Any] = []
    for part in (files[:6], files[6:]):  # the second time by another classifier
        predictor = Predictor(classifier(small_clip, Counts), small.NAMES, SEEN)
        if parts:
            predictor.continue_stream(tmp_path / "state")
        parts += [best[0][0] for best in predictor.predict(part)]
        predictor.save_stream(tmp_path / "state")
    assert parts == whole
    with pytest.raises(VlmadaptError, match="a stream of other classes"):
        Predictor(classifier(small_clip, Counts), small.NAMES[:3], SEEN).continue_stream(tmp_path / "state")
    with pytest.raises(VlmadaptError, match="Memo answers for each image on its own"):
        Predictor(classifier(small_clip, Memo), small.NAMES, SEEN).save_stream(tmp_path / "state")


def test_a_method_gets_the_views_it_asks_for(small_clip: Backbone, group: ClassGroup) -> None:
    class Views(Counts):
        """Notes the images of a pass."""

        streams = False
        test_views = 3

        def route(self, fwd: ForwardPass, role: Role) -> Tensor:
            rows.append(fwd.images)
            return fwd.logits().unflatten(0, (-1, 3)).mean(dim=1)

    rows: list[Tensor] = []
    predicted(classifier(small_clip, Views), group)
    plain: list[Tensor] = []

    class Plain(Counts):
        """Notes the images of a pass."""

        streams = False

        def route(self, fwd: ForwardPass, role: Role) -> Tensor:
            plain.append(fwd.images)
            return fwd.logits()

    predicted(classifier(small_clip, Plain), group)
    views = torch.cat(rows).unflatten(0, (-1, 3))
    assert views.shape == (13, 3, 3, 16, 16)
    assert torch.equal(views[:, 0], torch.cat(plain)), "the first view is the image itself"
    rows.clear()
    Views.test_augmentation = "augmix"  # type: ignore[assignment, method-assign]
    predicted(classifier(small_clip, Views), group)
    mixed = torch.cat(rows).unflatten(0, (-1, 3))
    assert torch.equal(mixed[:, 0], views[:, 0])
    assert not torch.allclose(mixed[:, 1:], views[:, 1:])
