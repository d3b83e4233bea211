"""Files of predictions: CSV or JSON lines, written while images are predicted."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from vlmadapt.errors import VlmadaptError

if TYPE_CHECKING:
    from vlmadapt.evaluation.predictor import Prediction

PARTIAL = ".part"
"""End of the name of a file that is not complete yet; an interrupted command leaves it."""
ENDINGS = (".csv", ".jsonl")


def record(prediction: Prediction) -> dict[str, Any]:
    """A prediction as JSON."""
    classes = [{"name": name, "probability": value} for name, value in prediction.best]
    return {
        "image": str(prediction.image),
        "class": prediction.name,
        "probability": prediction.best[0][1],
        "classes": classes,
    }


def check_ending(path: Path) -> None:
    """Refuse a file that `prediction_file` cannot write.

    Raises:
        VlmadaptError: it is neither `.csv` nor `.jsonl`.
    """
    if path.suffix.lower() not in ENDINGS:
        raise VlmadaptError(f"'{path}' is neither .csv nor .jsonl; name a file that ends with one of these.")


@contextmanager
def prediction_file(path: Path, top: int) -> Iterator[Callable[[Prediction], None]]:
    """A function that adds a prediction to a file; the file gets its name when the block ends well.

    A `.jsonl` file has a `record` in each line. A `.csv` file has the columns image, class, probability and, for the
    further classes, class_2, probability_2 and so on.

    Args:
        path: where; an existing file is replaced at the end.
        top: classes of each prediction.

    Raises:
        VlmadaptError: the file has another ending, or cannot be written.
    """
    check_ending(path)
    partial = path.with_name(path.name + PARTIAL)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("w", encoding="utf-8", newline="")
    try:
        with _writing(path):
            add = _csv(file, top) if path.suffix.lower() == ".csv" else _jsonl(file)
        yield _writing(path)(add)
    finally:
        with _writing(path):
            file.close()
    with _writing(path):
        partial.replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say of an error of the file system that this file cannot be written; errors of other files pass by."""
    try:
        yield
    except OSError as error:
        raise VlmadaptError(f"'{path}' cannot be written: {error.strerror or error}.") from error


def _csv(file: TextIO, top: int) -> Callable[[Prediction], None]:
    table = csv.writer(file, lineterminator="\n")
    further = [f"{name}_{place}" for place in range(2, top + 1) for name in ("class", "probability")]
    table.writerow(["image", "class", "probability", *further])

    def add(prediction: Prediction) -> None:
        rest = [cell for pair in prediction.best[1:] for cell in pair]
        table.writerow([prediction.image, prediction.name, prediction.best[0][1], *rest])

    return add


def _jsonl(file: TextIO) -> Callable[[Prediction], None]:
    return lambda prediction: print(json.dumps(record(prediction), ensure_ascii=False), file=file)
