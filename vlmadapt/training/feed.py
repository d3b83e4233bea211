"""Bringing batches to the device: on a GPU, while the step before is still running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from vlmadapt.data.loader import Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches with images and labels on a device.

    Steps are launched without waiting for them. So the copy of a batch runs on a stream of its own, from the pinned
    memory that the loader fills, next to the step before; the step that needs it waits for it on the device.
    """
    if device.type != "cuda":
        for batch in batches:
            yield batch._replace(images=batch.images.to(device), labels=batch.labels.to(device))
        return
    copying = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(copying):
            images, labels = (x.to(device, non_blocking=True) for x in (batch.images, batch.labels))
        current = torch.cuda.current_stream(device)
        current.wait_stream(copying)
        for tensor in (images, labels):
            tensor.record_stream(current)  # its memory must not be reused before the step has read it
        yield batch._replace(images=images, labels=labels)
