"""Scores are replayed only where a replay gives the eager scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from vlmadapt import registry
from vlmadapt.core.captured_scores import WARM_UP, CapturedScores
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.cuda_graph import CudaGraph
from vlmadapt.roles import SEEN
from vlmadapt.testing import MethodUnderTest, tiny_clip

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]
T = TypeVar("T")


class Recorded:
    """A stand-in for a CUDA graph: replaying runs the function again."""

    def __init__(self) -> None:
        self.replays = 0

    def warm_up(self) -> AbstractContextManager[object]:
        return nullcontext()

    def capture(self, function: Callable[[], T]) -> T:
        found = function()
        self._function: Any = function
        self._found: Any = found
        return found

    def replay(self) -> None:
        self.replays += 1
        with torch.inference_mode():
            self._found.copy_(self._function())

    def random_state(self) -> Tensor | None:
        return None

    def set_random_state(self, state: Tensor | None) -> None:
        pass


class Wrong(Recorded):
    def replay(self) -> None:
        super().replay()
        with torch.inference_mode():
            self._found.mul_(1.01)


class Refusing(Recorded):
    def capture(self, function: Callable[[], T]) -> T:
        raise RuntimeError("operation not permitted when stream is capturing")


def classifier_of(name: str = "mmrl", **options: Any) -> tuple[Classifier, Sequence[str], Tensor]:
    tested = MethodUnderTest(name, options)
    shots = tested.shots(per_class=4)
    return tested.trained, shots.names, shots.images


def batches(images: Tensor, size: int = 3) -> list[Tensor]:
    return list(images.split(size))


def seen_in_views(images: Tensor, views: int) -> Tensor:
    """Images (B, 3, H, W), or several views of each, (B, views, 3, H, W)."""
    return images if views == 1 else torch.stack([images.roll(step, dims=-1) for step in range(views)], dim=1)


def test_replayed_scores_are_the_eager_ones() -> None:
    classifier, names, images = classifier_of()
    made: list[Recorded] = []
    with classifier.unchanged():
        expected = [classifier.scores(batch, names, SEEN) for batch in batches(images)]
        score = CapturedScores(classifier, names, SEEN, lambda: made.append(Recorded()) or made[-1])
        found = [score(batch).clone() for batch in batches(images)]
    assert score.reason is None
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    whole = [batch for batch in batches(images) if len(batch) == 3]
    assert made[0].replays == len(whole) - WARM_UP, "the last batch is smaller, the trial is one replay"


def test_zero_shot_logits_are_replayed_next_to_the_scores() -> None:
    classifier, names, images = classifier_of()
    with classifier.unchanged():
        expected = [classifier.scores_and_zero_shot(batch, names, SEEN) for batch in batches(images)]
        score = CapturedScores(classifier, names, SEEN, Recorded, zero_shot=True)
        found = [score(batch).clone() for batch in batches(images)]
    assert score.reason is None
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, torch.cat(other, dim=1))


@pytest.mark.parametrize(
    ("kind", "said"), [(Wrong, "differ from eager ones"), (Refusing, "operation not permitted when stream")]
)
def test_what_cannot_be_trusted_is_scored_eagerly(kind: type[Recorded], said: str) -> None:
    classifier, names, images = classifier_of()
    with classifier.unchanged():
        expected = [classifier.scores(batch, names, SEEN) for batch in batches(images)]
        score = CapturedScores(classifier, names, SEEN, kind)
        found = [score(batch).clone() for batch in batches(images)]
    assert score.reason is not None
    assert said in score.reason
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_scoring_that_changes_the_method_is_never_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial would change it once more than the images do."""
    classifier, names, images = classifier_of()
    method: Any = classifier.method
    method.register_buffer("seen", torch.zeros(()))
    route = method.route

    def counting(*given: Any) -> Tensor:
        method.seen += 1
        return route(*given)

    monkeypatch.setattr(method, "route", counting)
    with classifier.unchanged():
        score = CapturedScores(classifier, names, SEEN, Recorded)
        for batch in batches(images):
            score(batch)
    assert score.reason == "scoring changes the method"
    assert float(method.seen) == len(batches(images))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", METHODS)
def test_on_a_gpu_replayed_scores_are_the_eager_ones(name: str) -> None:
    tested = MethodUnderTest(name, backbone=tiny_clip.__wrapped__())  # one of its own, to be moved
    classifier, shots = tested.trained, tested.shots(per_class=4)
    if classifier.method.streams:
        pytest.skip("each batch changes the method: `scorer` does not capture it")
    classifier.backbone.cuda()
    classifier.method.cuda()
    names, images = shots.names, seen_in_views(shots.images, classifier.method.test_views).cuda()
    with classifier.unchanged():
        expected = [classifier.scores(batch, names, SEEN) for batch in batches(images)]
        score = CapturedScores(classifier, names, SEEN, CudaGraph)
        found = [score(batch).clone() for batch in batches(images)]
    assert score.reason is None
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
