"""Batches that are the same whatever the number of workers and processes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vlmadapt.cores import usable_cores
from vlmadapt.data.dataset import Example
from vlmadapt.data.generators import DrawFrom
from vlmadapt.data.images import decoders, read_image
from vlmadapt.data.transforms import Transform

CACHE_BYTES = 512 * 2**20
"""Decoded pixels that an image set may keep."""

Key = tuple[int, int]
"""Epoch and index: which image, and which of its augmentations."""


class Batch(NamedTuple):
    """A process's share of a batch; it may be empty.

    Attributes:
        images: (n, 3, H, W).
        labels: (n,).
        indices: (n,) positions in the list of examples.
        total: images in the batch over all processes.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    total: int


class ImageSet(Dataset[tuple[Tensor, int, int]]):
    """Transformed images; the random numbers of each are derived from (seed, epoch, index).

    Args:
        examples: what to read.
        transform: applied to each decoded image; may draw with torch's random functions.
        seed: of the augmentations.
        cache_images: keep decoded images, from the first on, as far as `CACHE_BYTES` goes.
    """

    def __init__(
        self, examples: Sequence[Example], transform: Transform, seed: int = 0, cache_images: bool = False
    ) -> None:
        self.examples = examples
        self.transform = transform
        self.seed = seed
        self._decoded = _decode(examples) if cache_images else []

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: Key) -> tuple[Tensor, int, int]:
        """The image (3, H, W) as augmented in that epoch, its label and its index."""
        epoch, index = key
        image = self._decoded[index] if index < len(self._decoded) else read_image(self.examples[index].path)
        return self._transformed(image, epoch, index), self.examples[index].label, index

    def __getstate__(self) -> dict[str, Any]:
        # A forked worker shares the decoded images; one that is spawned would hold a copy of all of them.
        return {**self.__dict__, "_decoded": []}

    def collate(self, items: Sequence[tuple[Tensor, int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """Images (n, 3, H, W), labels (n,) and indices (n,); n may be 0."""
        if not items:
            shape = self._transformed(Image.new("RGB", (16, 16)), epoch=0, index=0).shape
            return torch.empty(0, *shape), torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long)
        images, labels, indices = zip(*items, strict=True)
        return torch.stack(images), torch.tensor(labels), torch.tensor(indices)

    def _transformed(self, image: Image.Image, epoch: int, index: int) -> Tensor:
        with DrawFrom(torch.Generator().manual_seed(derived_seed(self.seed, epoch, index))):
            return self.transform(image)


class GlobalBatches(Sampler[list[Key]]):
    """One process's share of every batch of an epoch.

    Batches are formed over all processes, and each process takes a contiguous shard of every batch.
    Shares differ by one at most; where a batch has fewer images than there are processes, some are empty.

    Args:
        size: number of examples.
        batch_size: images per batch over all processes.
        seed: seed of a new order in each epoch, without the last incomplete batch unless it is the only one; None keeps
            the order and every example.
        rank: index of this process.
        world: number of processes.

    Attributes:
        epoch: the epoch to go through next.
        start: the batch to start from, counted from the epoch's beginning.
    """

    def __init__(self, size: int, batch_size: int, seed: int | None, rank: int = 0, world: int = 1) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return len(self.batches())

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self.batches():
            low, high = (len(batch) * rank // self.world for rank in (self.rank, self.rank + 1))
            yield [(self.epoch, index) for index in batch[low:high]]

    def batches(self) -> list[list[int]]:
        """Indices of the whole batches that are left of the epoch."""
        order = list(range(self.size))
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
            order = torch.randperm(self.size, generator=generator).tolist()
        cut = [order[i : i + self.batch_size] for i in range(0, self.size, self.batch_size)]
        if self.seed is not None and len(cut) > 1 and len(cut[-1]) < self.batch_size:
            cut.pop()
        return cut[self.start :]


class TrainBatches:
    """Shuffled, augmented batches, epoch by epoch; `len` is the number of batches in a whole epoch.

    A batch depends only on the examples, the transform, the batch size, the seed, the epoch and its number there.

    Args:
        examples: what to train on.
        transform: with augmentation.
        batch_size: images per batch over all processes.
        seed: of order and augmentation.
        rank: this process.
        world: number of processes.
        workers: processes that load; None for what suits the machine.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        transform: Transform,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
    ) -> None:
        self._sampler = GlobalBatches(len(examples), batch_size, seed, rank, world)
        self._length = len(self._sampler)
        images = ImageSet(examples, transform, seed, cache_images=True)
        self._loader = _loader(images, self._sampler, _workers(len(examples), world) if workers is None else workers)

    def __len__(self) -> int:
        return self._length

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's shares of the batches of an epoch, from the batch `start` on."""
        self._sampler.epoch, self._sampler.start = epoch, start
        yield from _batches(self._loader, self._sampler)


def eval_batches(
    examples: Sequence[Example],
    transform: Transform,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    workers: int | None = None,
    *,
    seed: int = 0,
    epoch: int = 0,
) -> Iterator[Batch]:
    """This process's shares of batches in the order of `examples`; over all processes each example comes once.

    Args:
        examples: what to go through.
        transform: as a rule without augmentation.
        batch_size: images per batch over all processes.
        rank: this process.
        world: number of processes.
        workers: processes that load; None for what suits the machine.
        seed: of the augmentation, where there is one.
        epoch: another one has other augmentations.
    """
    sampler = GlobalBatches(len(examples), batch_size, None, rank, world)
    sampler.epoch = epoch
    images = ImageSet(examples, transform, seed)
    yield from _batches(
        _loader(images, sampler, _workers(len(examples), world) if workers is None else workers), sampler
    )


def derived_seed(*numbers: int) -> int:
    """A seed derived from these numbers, independent of the seed derived from any others."""
    return int.from_bytes(hashlib.sha256(",".join(map(str, numbers)).encode()).digest()[:8], "big")


def _loader(images: ImageSet, sampler: GlobalBatches, workers: int) -> DataLoader[Any]:
    return DataLoader(
        images,
        batch_sampler=sampler,
        collate_fn=images.collate,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
        # Without a generator of its own a loader draws a number from the global one for every epoch.
        generator=torch.Generator(),
    )


def _batches(loader: DataLoader[Any], sampler: GlobalBatches) -> Iterator[Batch]:
    whole = sampler.batches()
    for (images, labels, indices), batch in zip(loader, whole, strict=True):
        yield Batch(images, labels, indices, len(batch))


def _decode(examples: Sequence[Example]) -> list[Image.Image]:
    decoded: list[Image.Image] = []
    step = 64
    with decoders() as pool:
        for start in range(0, len(examples), step):
            if sum(4 * image.width * image.height for image in decoded) >= CACHE_BYTES:
                break
            decoded += pool.map(read_image, [example.path for example in examples[start : start + step]])
    return decoded


def _workers(images: int, world: int) -> int:
    # Few images are loaded before workers would have started, and on few cores workers compete with training.
    cores = usable_cores() // world
    return min(8, cores) if cores >= 4 and images >= 256 else 0
