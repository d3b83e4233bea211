"""Choose a method's settings for the embedded data set, by cross-validation on its base classes alone.

    python benchmarks/openmoji_settings.py mmrl++ --options reg_weight=0.5,1,2 --train epochs=10,20

No test image and no image of a novel class is used. The 17 base classes are split into two halves, their training and
validation images into three parts. A method trains on two parts of the images of one half, and is tested on the third
part (seen) and on all images of the other half (unseen). Both halves and all three parts take turns, so every number is
the mean of six runs. Results are kept in `--out` and not computed again.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from vlmadapt import FitSettings, fit
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.load import load_data
from vlmadapt.data.splits import base_and_novel
from vlmadapt.evaluation.accuracy import harmonic_mean
from vlmadapt.files import write_json

PARTS = 3
TURNS = tuple(product(range(2), range(PARTS)))
"""The half of the base classes to train on, and the part of its images to hold out."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method")
    parser.add_argument("--options", nargs="*", default=[], metavar="NAME=VALUE,VALUE", help="options of the method")
    parser.add_argument("--train", nargs="*", default=[], metavar="NAME=VALUE,VALUE", help="training settings")
    parser.add_argument("--out", type=Path, default=Path("runs/openmoji-settings.json"))
    given = parser.parse_args()
    known: dict[str, list[float]] = json.loads(given.out.read_text()) if given.out.is_file() else {}
    base = base_images(load_data("openmoji"))
    for options, train in product(grid(given.options), grid(given.train)):
        key = json.dumps([given.method, options, train])
        if key not in known:
            known[key] = cross_validated(base, given.method, options, train)
            given.out.parent.mkdir(parents=True, exist_ok=True)
            write_json(given.out, known)
        seen, unseen = known[key]
        print(f"{harmonic_mean(seen, unseen):5.2f} (seen {seen:.2f}, unseen {unseen:.2f})  {key}", flush=True)
    show({key: value for key, value in known.items() if json.loads(key)[0] == given.method})


def grid(given: list[str]) -> Iterator[dict[str, Any]]:
    """All combinations of values like `epochs=10,20`."""
    names = [text.partition("=")[0] for text in given]
    values = [[yaml.safe_load(v) for v in text.partition("=")[2].split(",")] for text in given]
    return (dict(zip(names, chosen, strict=True)) for chosen in product(*values))


def base_images(data: Dataset) -> dict[str, list[Path]]:
    """Training and validation images of the base classes, by class name."""
    images: dict[str, list[Path]] = {data.classes[label]: [] for label in base_and_novel(data)[0]}
    example: Example
    for example in (*data.train, *data.val):
        images.get(data.classes[example.label], []).append(example.path)
    return images


def cross_validated(
    images: dict[str, list[Path]], method: str, options: dict[str, Any], train: dict[str, Any]
) -> list[float]:
    """Mean accuracy in percent on seen and on unseen classes."""
    found = [one_turn(images, method, options, train, half, part) for half, part in TURNS]
    return [mean(accuracy) for accuracy in zip(*found, strict=True)]


def one_turn(
    images: dict[str, list[Path]], method: str, options: dict[str, Any], train: dict[str, Any], half: int, part: int
) -> tuple[float, float]:
    """Accuracy on seen and on unseen classes after training on one half of the classes."""
    seen = list(images)[half::2]
    with tempfile.TemporaryDirectory() as folder:
        table, split = Path(folder) / "base.csv", Path(folder) / "split.yaml"
        split.write_text(yaml.safe_dump({"seen": seen, "unseen": [name for name in images if name not in seen]}))
        with table.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("path", "label", "split"))
            for name, paths in images.items():
                for i, path in enumerate(paths):
                    rows.writerow((path, name, "train" if name in seen and i % PARTS != part else "test"))
        settings = FitSettings(
            method=method,
            options=options,
            train=train,
            data=str(table),
            protocol="custom",
            class_split=str(split),
            templates=["a picture of a {}."],
            shots=0,
            out=f"{folder}/run",
        )
        accuracy = fit(settings).numbers["accuracy"]
    return accuracy["base"], accuracy["novel"]


def show(known: dict[str, list[float]]) -> None:
    """Print all settings tried, the best first."""
    table = Table(title="cross-validated on the base classes of openmoji")
    for column in ("HM", "seen", "unseen", "settings"):
        table.add_column(column, justify="left" if column == "settings" else "right")
    for key, (seen, unseen) in sorted(known.items(), key=lambda item: -harmonic_mean(*item[1])):
        _, options, train = json.loads(key)
        words = ", ".join(f"{name} {value}" for name, value in {**options, **train}.items())
        table.add_row(f"{harmonic_mean(seen, unseen):.2f}", f"{seen:.2f}", f"{unseen:.2f}", words or "as published")
    Console().print(table)


if __name__ == "__main__":
    main()
