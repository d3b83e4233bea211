"""Decode images to predict in threads while the batch before is classified, so that memory does not grow with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import torch
from PIL import Image
from torch import Tensor

from vlmadapt.data.generators import DrawFrom
from vlmadapt.data.image_input import ImageInput, as_rgb
from vlmadapt.data.images import decoders
from vlmadapt.data.loader import derived_seed
from vlmadapt.data.transforms import Transform
from vlmadapt.errors import DataError

T = TypeVar("T")


@dataclass(frozen=True)
class Broken:
    """An image that cannot be read, and why."""

    image: ImageInput
    reason: str


@dataclass(frozen=True)
class Decoded:
    """Images of a batch that could be read, their pixels (B, 3, H, W), and those that could not be read."""

    images: list[ImageInput]
    pixels: Tensor
    broken: list[Broken]


class Decoding:
    """Prepared batches of images, decoded in threads.

    Args:
        transform: prepares an image; may draw with torch's random functions, for each image its own numbers.
        device: where batches go.
        size: images in a batch.
        light: whether decoding takes longer than computing on a batch, which then has one core (`one_core`).

    Attributes:
        seen: number of images so far.
    """

    def __init__(self, transform: Transform, device: torch.device, size: int, light: bool):
        self.seen = 0
        self._transform = transform
        self._device = device
        self._size = size
        self._light = light

    def batches(self, images: Iterable[ImageInput], workers: int | None = None) -> Iterator[Decoded]:
        """Decoded batches, the next one being decoded while the caller works on one, if cores are free for that.

        Threads of torch wait for each other actively, which takes the cores from threads that decode. So where torch
        computes on several cores, all cores decode a batch, and then all of them compute.
        """
        threads = torch.get_num_threads()
        ahead = 0 if self._device.type == "cpu" and threads > 1 and not self._light else 1
        with decoders(workers, initializer=_use_one_core) as pool:
            waiting: deque[list[tuple[ImageInput, Future[Tensor]]]] = deque()
            for some in _cut(images, self._size):
                for image in some:
                    if isinstance(image, Image.Image):
                        image.load()  # here, because the same image may come twice and its file can be read by one only
                waiting.append([(image, pool.submit(self._load, image, self.seen + i)) for i, image in enumerate(some)])
                self.seen += len(some)
                if len(waiting) > ahead:
                    yield self._finished(waiting.popleft(), threads)
            while waiting:
                yield self._finished(waiting.popleft(), threads)

    def _load(self, image: ImageInput, place: int) -> Tensor:
        with DrawFrom(torch.Generator().manual_seed(derived_seed(0, 0, place))):  # for random views
            return self._transform(as_rgb(image))

    def _finished(self, loading: list[tuple[ImageInput, Future[Tensor]]], threads: int) -> Decoded:
        images: list[ImageInput] = []
        pixels: list[Tensor] = []
        broken: list[Broken] = []
        for image, future in loading:
            try:
                pixels.append(future.result())
            except DataError as error:
                broken.append(Broken(image, str(error)))
            else:
                images.append(image)
        torch.set_num_threads(threads)  # parts of that setting are the process's, and `_use_one_core` has changed them
        stacked = torch.stack(pixels).to(self._device) if pixels else torch.empty(0)
        return Decoded(images, stacked, broken)


def _use_one_core() -> None:
    """Let torch's operations in this thread use this thread alone: as many others decode as there are cores."""
    torch.set_num_threads(1)


def _cut(images: Iterable[T], size: int) -> Iterator[list[T]]:
    source = iter(images)
    while some := list(islice(source, size)):
        yield some
