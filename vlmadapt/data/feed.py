"""Bringing batches to the device: on a GPU, while the batch before is still being computed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator

import torch

from vlmadapt.data.loader import Batch

AHEAD = 2
"""Batches that are launched before the oldest of them must be done, so that images do not fill the device's memory."""


class Feed:
    """Batches with images and labels on a device.

    Attributes:
        waited: seconds spent waiting for the loader.
    """

    def __init__(self, device: torch.device):
        self.waited = 0.0
        self._device = device
        self._copying: torch.cuda.Stream | None = None  # one for all epochs: each stream has free memory of its own

    def __call__(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches, one after another, on the device.

        Computation is launched without waiting for it. So the copy of a batch runs on a stream of its own, from the
        pinned memory that the loader fills, next to the computation on the batch before; what needs it waits for it on
        the device. The host waits only for the batch `AHEAD` places before.
        """
        batches = self._timed(batches)
        yield from self._overlapped(batches) if self._device.type == "cuda" else map(self._copied, batches)

    def _timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        source = iter(batches)
        while True:
            began = time.perf_counter()
            batch = next(source, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    def _copied(self, batch: Batch) -> Batch:
        images, labels = (x.to(self._device, non_blocking=True) for x in (batch.images, batch.labels))
        return batch._replace(images=images, labels=labels)

    def _overlapped(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        copying = self._copying = self._copying or torch.cuda.Stream(self._device)
        launched: deque[torch.cuda.Event] = deque()
        for batch in batches:
            with torch.cuda.stream(copying):
                copied = self._copied(batch)
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(copying)
            for tensor in (copied.images, copied.labels):
                tensor.record_stream(current)  # its memory must not be reused before the computation has read it
            yield copied
            launched.append(torch.cuda.current_stream(self._device).record_event())
            if len(launched) > AHEAD:
                launched.popleft().synchronize()
