"""Batches that are the same whatever the number of workers and processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
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

MOST_WORKERS = {"cpu": 8, "cuda": 16}
"""Processes that load images by default, by what there is to compute on."""

WAITING_IMAGES = 512
"""Images that all workers together have ready for a GPU, whose steps take milliseconds; at least two batches each."""

AnyTransform = Callable[[Image.Image], Any]

Key = tuple[int, int]
"""Epoch and index: which image, and which of its augmentations."""


class Batch(NamedTuple):
    """A process's share of a batch; it may be empty.

    Attributes:
        images: (n, 3, H, W); where the device augments, crops that become so in `Feed`.
        labels: (n,).
        indices: (n,) positions in the list of examples.
        total: images in the batch over all processes.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    total: int


class ImageSet(Dataset[tuple[Any, int, int]]):
    """Transformed images, each drawn with random numbers of its own: those of (seed, epoch, index).

    Args:
        examples: what to read.
        transform: applied to each decoded image; may draw with torch's random functions. Its method `collate`, if it
            has one, makes a batch of its results.
        seed: of the augmentations.
        cache_images: keep decoded images, from the first on, as far as `CACHE_BYTES` goes.
    """

    def __init__(
        self, examples: Sequence[Example], transform: AnyTransform, seed: int = 0, cache_images: bool = False
    ) -> None:
        self.examples = examples
        self.transform = transform
        self.seed = seed
        self._decoded = _decode(examples) if cache_images else []

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: Key) -> tuple[Any, int, int]:
        """The image (3, H, W) as augmented in that epoch, its label and its index."""
        epoch, index = key
        image = self._decoded[index] if index < len(self._decoded) else read_image(self.examples[index].path)
        return self._transformed(image, epoch, index), self.examples[index].label, index

    def __getstate__(self) -> dict[str, Any]:
        # A forked worker shares the decoded images; one that is spawned would hold a copy of all of them.
        return {**self.__dict__, "_decoded": []}

    def collate(self, items: Sequence[tuple[Any, int, int]]) -> tuple[Any, Tensor, Tensor]:
        """Images (n, 3, H, W), or what the transform's own `collate` gives, labels (n,) and indices (n,)."""
        images, labels, indices = zip(*items, strict=True) if items else ((), (), ())
        numbers = (torch.tensor(values, dtype=torch.long) for values in (labels, indices))
        return self._collated(images), *numbers

    def _collated(self, images: Sequence[Any]) -> Any:
        collate = getattr(self.transform, "collate", None)
        if collate is not None:
            return collate(images)
        if images:
            return torch.stack(list(images))
        return torch.empty(0, *self._transformed(Image.new("RGB", (16, 16)), epoch=0, index=0).shape)

    def _transformed(self, image: Image.Image, epoch: int, index: int) -> Any:
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
        views: augmentations of each image, which epochs take in turn; 0 for a new one in each epoch.

    Attributes:
        epoch: the epoch to go through next.
        start: the batch to start from, counted from the epoch's beginning.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int | None, rank: int = 0, world: int = 1, views: int = 0
    ) -> None:
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world = world
        self.views = views
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return len(self.batches())

    def __iter__(self) -> Iterator[list[Key]]:
        for batch in self.batches():
            low, high = (len(batch) * rank // self.world for rank in (self.rank, self.rank + 1))
            yield [(self.epoch % self.views if self.views else self.epoch, index) for index in batch[low:high]]

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
        views: augmentations of each image, which epochs take in turn; 0 for a new one in each epoch.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        transform: AnyTransform,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
        views: int = 0,
    ) -> None:
        self._sampler = GlobalBatches(len(examples), batch_size, seed, rank, world, views)
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
        prefetch_factor=_prefetch(sampler.batch_size, workers) if workers else None,
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
    bytes_used, step = 0, 64
    with decoders() as pool:
        for start in range(0, len(examples), step):
            if bytes_used >= CACHE_BYTES:
                break
            images = list(pool.map(read_image, [example.path for example in examples[start : start + step]]))
            bytes_used += sum(4 * image.width * image.height for image in images)
            decoded += images
    return decoded


def _workers(images: int, world: int) -> int:
    # Few images are loaded before workers would have started, and on few cores workers compete with training.
    cores = usable_cores() // world
    return min(MOST_WORKERS[_computes_on()], cores) if cores >= 4 and images >= 256 else 0


def _prefetch(batch: int, workers: int) -> int:
    """Batches that each worker has ready."""
    return 2 if _computes_on() == "cpu" else min(max(2, WAITING_IMAGES // (batch * workers)), 16)


def _computes_on() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
