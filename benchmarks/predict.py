"""Throughput and memory of `predict` and `evaluate`, next to a plain open_clip loop over the same photographs.

    python benchmarks/predict.py                      # 1,000 JPEG files of 640 x 480 pixels, about 110 KB each
    python benchmarks/predict.py --images 10000 --only evaluate
    python benchmarks/predict.py --memory 100000      # peak memory over so many files

The plain loop is what one would write: a `DataLoader` of open_clip's own transform, `encode_image`, and a product with
the text features. Rounds alternate, and the median of each is shown. Processor time is that of all processes and
threads; unlike images per second it hardly depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import torch
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from vlmadapt import FitSettings, Predictor, evaluate, fit, load

BATCH = 64


class Photographs(Dataset[torch.Tensor]):
    """Files as a plain loop reads them."""

    def __init__(self, files: list[Path], transform: Callable[[Image.Image], torch.Tensor]):
        self.files, self.transform = files, transform

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[index]).convert("RGB"))


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Smooth random pictures with noise, which take as many bytes as photographs; in two classes."""
    generator = np.random.default_rng(0)
    files = [folder / f"class {number % 2}" / f"{number:06}.jpg" for number in range(count)]
    for name in {file.parent for file in files}:
        name.mkdir(parents=True)
    for number, file in enumerate(files):
        if number < 1000:
            coarse = Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((640, 480), Image.Resampling.BICUBIC)).astype(int)
            noisy = smooth + generator.integers(-14, 15, (480, 640, 1))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, quality=88)
        else:
            os.link(files[number % 1000], file)
    return files


def plain_loop(predictor: Predictor, files: list[Path], workers: int) -> None:
    backbone = predictor.classifier.backbone
    transform = image_transform_v2(PreprocessCfg(**backbone.preprocess_config), is_train=False)
    texts = torch.tensor(predictor.embed_texts()).to(backbone.device)
    with torch.inference_mode():
        for images in DataLoader(Photographs(files, transform), batch_size=BATCH, num_workers=workers):
            features = backbone.image.encode(images.to(backbone.device))
            scores = backbone.scale * torch.nn.functional.normalize(features, dim=-1) @ texts.T
            scores.softmax(dim=-1).max(dim=-1).indices.tolist()


def predicted(predictor: Predictor, files: list[Path], workers: int) -> None:
    for _ in predictor.answers(map(str, files), 1, workers=workers):
        pass


def processor_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def compare(ways: dict[str, Callable[[], None]], images: int, rounds: int) -> None:
    """Print the median images per second and processor time of each way, in alternating rounds."""
    speed: dict[str, list[float]] = {name: [] for name in ways}
    cost: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            began, used = time.perf_counter(), processor_seconds()
            way()
            speed[name].append(images / (time.perf_counter() - began))
            cost[name].append(1000 * (processor_seconds() - used) / images)
    table = Table("what", "images / s", "ms of processor time for an image")
    for name in ways:
        table.add_row(name, f"{statistics.median(speed[name]):.0f}", f"{statistics.median(cost[name]):.2f}")
    Console().print(table)


def resident() -> float:
    """Memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(predictor: Predictor, files: list[Path], count: int) -> None:
    """Print the memory while `count` files are predicted, these again and again."""
    names: Iterator[str] = (str(file) for file in chain.from_iterable(repeat(files)))
    table = Table("images", "MiB")
    for done, _ in enumerate(predictor.answers((next(names) for _ in range(count)), 1), start=1):
        if done % max(count // 10, 1) == 0:
            table.add_row(f"{done:,}", f"{resident():.0f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("predict", "evaluate"))
    parser.add_argument("--memory", type=int, default=0, help="only measure memory, over so many files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_photographs(Path(folder) / "photographs", given.images)
        run = Path(folder) / "run"
        fit(FitSettings(method="clip", data="openmoji", backbone=given.backbone, protocol="few-shot", out=str(run)))
        predictor = load(run, ["class 0", "class 1"])
        if given.memory:
            memory(predictor, files, given.memory)
            return
        if given.only != "evaluate":
            compare(
                {
                    f"predict, {given.workers} threads": lambda: predicted(predictor, files, given.workers),
                    f"plain loop, {given.workers} workers": lambda: plain_loop(predictor, files, given.workers),
                },
                given.images,
                given.rounds,
            )
        if given.only != "predict":
            compare(
                {
                    "evaluate, whole command but imports": lambda: (
                        evaluate(run, data=str(files[0].parents[1])) and None
                    ),
                    "plain loop, no workers": lambda: plain_loop(predictor, files, 0),
                },
                given.images,
                given.rounds,
            )


if __name__ == "__main__":
    main()
