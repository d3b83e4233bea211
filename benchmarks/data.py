"""Throughput of data loading: images decoded, augmented and fed per second, on photographs of the usual size.

    python benchmarks/data.py                         # 512 JPEG files of 500 x 375 pixels with random content

A few-shot set is decoded once and kept in memory; it is augmented at every step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from vlmadapt.data.dataset import Example
from vlmadapt.data.images import read_image
from vlmadapt.data.loader import TrainBatches
from vlmadapt.data.transforms import train_transform

CLIP = {"size": (224, 224), "mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28), "interpolation": "bicubic"}


def photographs(folder: Path, count: int) -> list[Example]:
    """Smooth random pictures, which compress like photographs."""
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        coarse = torch.randint(0, 256, (24, 32, 3), generator=generator, dtype=torch.uint8).numpy()
        Image.fromarray(coarse).resize((500, 375), Image.Resampling.BICUBIC).save(folder / f"{number}.jpg", quality=90)
    return [Example(folder / f"{number}.jpg", number % 10) for number in range(count)]


def rate(images: int, work: Callable[[], object]) -> float:
    """Images per second."""
    began = time.perf_counter()
    work()
    return images / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    given = parser.parse_args()
    torch.set_num_threads(1)
    transform = train_transform(CLIP, (0.08, 1.0), 0.5)
    with tempfile.TemporaryDirectory() as folder:
        examples = photographs(Path(folder), given.images)
        decoded = [read_image(example.path) for example in examples]
        table = Table("what", "images / s")
        table.add_row("decode, one thread", f"{rate(given.images, lambda: [read_image(e.path) for e in examples]):.0f}")
        table.add_row("augment, one thread", f"{rate(given.images, lambda: [transform(i) for i in decoded]):.0f}")
        for workers in (0, 2):
            batches = TrainBatches(examples, transform, given.batch, seed=1, workers=workers)
            list(batches.epoch(0))  # workers start, images are decoded
            fed = rate(len(batches) * given.batch, lambda loaded=batches: list(loaded.epoch(1)))
            table.add_row(f"fed from memory, {workers} workers", f"{fed:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
