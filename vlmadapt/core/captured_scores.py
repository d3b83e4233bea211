"""Scores of batches of images, on a GPU replayed as a CUDA graph: one launch instead of hundreds.

Text features are kept, so a batch is a pass through the image tower, whose kernels take less time than Python needs to
launch them. Batches of the first size run eagerly at first; then scoring is captured, and replayed once a replay has
given the eager scores. Batches of other sizes, such as the last one, run eagerly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.cuda_graph import CudaGraph, Graph, first_cause
from vlmadapt.core.kept_text import MethodState
from vlmadapt.roles import Role
from vlmadapt.text import first_line

WARM_UP = 2
"""Batches that run eagerly before scoring is captured."""

TOLERANCE = 1e-3
"""Largest difference between replayed and eager scores, relative to the largest score."""

Scorer = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) -> scores (B, classes), in memory that the next call may overwrite.

With zero-shot, (B, 2 * classes): the frozen backbone's logits follow.
"""


def scorer(classifier: Classifier, names: Sequence[str], role: Role, *, zero_shot: bool = False) -> Scorer:
    """The fastest way to score many batches against the same classes, for use in `classifier.unchanged()`."""
    if classifier.device.type == "cuda" and not classifier.method.streams:  # whose state changes with every batch
        return CapturedScores(classifier, names, role, zero_shot=zero_shot)
    return _eager(classifier, names, role, zero_shot)


def _eager(classifier: Classifier, names: Sequence[str], role: Role, zero_shot: bool) -> Scorer:
    if zero_shot:
        return lambda images: torch.cat(classifier.scores_and_zero_shot(images, names, role), dim=1)
    return lambda images: classifier.scores(images, names, role)


class CapturedScores:
    """`Classifier.scores`, replayed once it has been captured.

    Attributes:
        reason: reason why scores are computed eagerly from now on; None while they are or may be replayed.
    """

    def __init__(
        self,
        classifier: Classifier,
        names: Sequence[str],
        role: Role,
        new_graph: Callable[[], Graph] = CudaGraph,
        *,
        zero_shot: bool = False,
    ):
        self._classifier = classifier
        self._scores = _eager(classifier, names, role, zero_shot)
        self._new_graph = new_graph
        self._shape: torch.Size | None = None
        self._eager_batches = 0
        self._graph: Graph | None = None
        self._captured = False
        self.reason: str | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Scores (B, classes) of images (B, 3, H, W)."""
        if self._shape is None:
            self._shape, self._graph = images.shape, self._new_graph()
        if self.reason is not None or images.shape != self._shape or self._graph is None:
            return self._scores(images)
        if self._captured:
            return self._replay(images)
        if self._eager_batches < WARM_UP:
            self._eager_batches += 1
            with self._graph.warm_up():
                return self._scores(images)
        return self._capture(images)

    def _replay(self, images: Tensor) -> Tensor:
        assert self._graph is not None
        self._images.copy_(images, non_blocking=True)
        self._graph.replay()
        return self._found

    def _capture(self, images: Tensor) -> Tensor:
        """Record scoring and compare a replay with the eager scores, which are the ones that count."""
        assert self._graph is not None
        before = MethodState(self._classifier.method).copy()
        expected = self._scores(images)
        if not before.equals(MethodState(self._classifier.method)):
            self.reason = "scoring changes the method"
            return expected
        try:
            self._images = images.clone()
            self._kept = self._classifier.kept()  # a dropped cache entry would leave the graph reading freed memory
            self._found = self._graph.capture(lambda: self._scores(self._images))
            found = self._replay(images)
        except Exception as error:  # whatever a method raises: eagerly it runs, or raises for all to see
            self.reason = f"scoring cannot be captured: {first_line(first_cause(error))}"
            return expected
        if not _close(found, expected):
            self.reason = "replayed scores differ from eager ones"
        self._captured = self.reason is None
        return expected


def _close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= TOLERANCE * expected.abs().max())
