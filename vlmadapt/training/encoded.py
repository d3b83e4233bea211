"""Training batches of images that passed the untouched image tower before training."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from vlmadapt.data.loader import Batch, GlobalBatches


class EncodedBatches:
    """Batches of the tower's output instead of pixels; implements `vlmadapt.training.loop.Batches`.

    The same images in the same order as `vlmadapt.data.loader.TrainBatches` gives.

    Args:
        output: gives the output (N, ...) of the image tower for a view of all images, when it is first needed.
        views: number of views, which epochs take in turn.
        labels: (N,).
        batch_size: images per batch over all processes.
        seed: of the order.
        rank: this process.
        world: number of processes.
    """

    def __init__(
        self,
        output: Callable[[int], Tensor],
        views: int,
        labels: Tensor,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._output = output
        self._views = views
        self._labels = labels
        self._sampler = GlobalBatches(len(labels), batch_size, seed, rank, world)
        self._length = len(self._sampler)

    def __len__(self) -> int:
        return self._length

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's share of each batch of an epoch, from batch `start` on."""
        self._sampler.epoch, self._sampler.start = epoch, start
        output = self._output(epoch % self._views)
        labels = self._labels.to(output.device)
        for share, whole in zip(self._sampler, self._sampler.batches(), strict=True):
            indices = torch.tensor([index for _, index in share], dtype=torch.long)
            chosen = indices.to(output.device)
            yield Batch(output[chosen], labels[chosen], indices, len(whole))
