"""Copy batches to the device; on a GPU, while the previous step is still running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from vlmadapt.data.loader import Batch


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches with images and labels on a device.

    Steps are launched asynchronously. The copy of a batch runs on its own stream, from the loader's pinned memory, in
    parallel with the previous step; the step that uses the batch waits for the copy on the device.
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
            tensor.record_stream(current)  # do not reuse its memory before the step has read it
        yield batch._replace(images=images, labels=labels)
