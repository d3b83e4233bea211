"""Refuse methods whose answers depend on earlier test images without saying so.

Their numbers would depend on the order of the images, on the batch size and on the number of processes.
"""

from __future__ import annotations

from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.kept_text import MethodState
from vlmadapt.data.splits import ClassGroup
from vlmadapt.errors import PluginError

TOLERANCE = 1e-3
"""Largest change of a score of the same batch, relative to the largest score."""


class Independence:
    """Compares what a method answers to its first batch with what it answers to it after all others.

    This is done only if the method has changed in between, so it costs next to nothing; a method may keep what it has
    computed.
    """

    def __init__(self, classifier: Classifier, group: ClassGroup):
        self._classifier = classifier
        self._group = group
        self._state = MethodState(classifier.method.eval()).copy()
        self._first: tuple[Tensor | FrozenImages, Tensor] | None = None

    def note(self, images: Tensor | FrozenImages, scores: Tensor) -> None:
        """Remember the first batch and its scores."""
        self._first = self._first or (images, scores.clone())  # a replayed graph writes over its scores

    def check(self) -> None:
        """Answer the first batch again.

        Raises:
            PluginError: the answers are others.
        """
        method = self._classifier.method
        if method.streams or self._first is None or self._state.equals(MethodState(method)):
            return
        images, scores = self._first
        again = self._classifier.scores(images, self._group.classes, self._group.role)
        if float((again - scores).abs().max()) > TOLERANCE * float(scores.abs().max()):
            raise PluginError(
                f"{type(method).__name__} changes while it is tested, and answers the first images differently after "
                "the others. Its accuracy would depend on the order of the images and on the number of processes. If "
                "that is its purpose, it has to say so with `streams = True`; otherwise `route` may not change what "
                "it depends on."
            )
