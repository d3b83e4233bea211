"""What several runs of one process share: backbones, output of the image tower, images known to be readable."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

from vlmadapt.core.backbone import Backbone
from vlmadapt.data.loader import Batch

LIMIT = 2 * 2**30
"""Bytes of tower outputs that are kept."""


@dataclass(frozen=True)
class _Kept:
    """Batches of tower output, their bytes, and the seconds that loading and encoding them took."""

    batches: list[Batch]
    nbytes: int
    seconds: float


class Shared:
    """State of a process that does several runs one after another; their results are the same as without it.

    Args:
        limit: bytes of tower outputs that are kept; those that were not used for longest are dropped.

    Attributes:
        readable: images that were decoded without an error.
    """

    def __init__(self, limit: int = LIMIT):
        self.readable: set[Path] = set()
        self._limit = limit
        self._backbones: dict[Hashable, Backbone] = {}
        self._outputs: OrderedDict[Hashable, _Kept] = OrderedDict()

    def backbone(self, key: Hashable, load: Callable[[], Backbone]) -> Backbone:
        """The backbone of a key, loaded at its first use."""
        if key not in self._backbones:
            self._backbones[key] = load()
        return self._backbones[key]

    def seconds(self, key: Hashable) -> float:
        """Seconds that the kept batches of a key took; 0 if none are kept."""
        return self._outputs[key].seconds if key in self._outputs else 0.0

    def encoded(self, key: Hashable, encode: Callable[[], Iterator[Batch]]) -> Iterator[Batch]:
        """Batches whose images have passed the image tower, encoded at the first use and kept if they fit.

        Args:
            key: names the backbone object, the images and their augmentation.
            encode: gives the batches.
        """
        if key in self._outputs:
            self._outputs.move_to_end(key)
            yield from self._outputs[key].batches
            return
        batches: list[Batch] = []
        nbytes, seconds, began = 0, 0.0, time.perf_counter()
        for batch in encode():
            seconds += time.perf_counter() - began
            nbytes += batch.images.nbytes
            if nbytes <= self._limit:
                batches.append(batch)
            else:
                batches.clear()
            yield batch
            began = time.perf_counter()
        if nbytes <= self._limit:
            self._keep(key, _Kept(batches, nbytes, seconds))

    def _keep(self, key: Hashable, kept: _Kept) -> None:
        self._outputs[key] = kept
        while sum(one.nbytes for one in self._outputs.values()) > self._limit:
            self._outputs.popitem(last=False)
