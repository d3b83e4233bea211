"""`vlmadapt predict`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentParser, Namespace

from vlmadapt.cli.parsing import (
    add_backbone,
    add_classes,
    add_descriptions,
    add_precision,
    class_list,
    new_parser,
    parse,
)
from vlmadapt.errors import DataError
from vlmadapt.files import exists
from vlmadapt.runs.run import Run
from vlmadapt.text import counted

if TYPE_CHECKING:
    from vlmadapt.evaluation.decoding import Broken
    from vlmadapt.evaluation.predictor import Prediction, Predictor, Threshold

DESCRIPTION = """Classify images with a finished run. Exits with 1 if images were skipped with --skip_corrupt."""
SKIPPED = 1
"""Exit code after images that cannot be read were skipped."""
MOST = 20
"""Skipped images that are named; the others are counted."""


@dataclass
class Summary:
    """What was found.

    Attributes:
        classes: number of images by predicted class.
        broken: images that cannot be read, the first `MOST` of them.
        skipped: number of images that cannot be read.
    """

    classes: Counter[str] = field(default_factory=Counter)
    broken: list[Broken] = field(default_factory=list)
    skipped: int = 0


def run(arguments: list[str]) -> None:
    """Parse, classify, write or print."""
    given = parse(_parser(), arguments)
    _check(given)
    if not (given.run.startswith("hf:") or (Path(given.run) / "adapter_config.json").is_file()):
        Run.open(Path(given.run))  # raises before torch is imported
    images, total = _images(given)
    if given.explain is not None and total != 1:
        raise DataError(f"--explain takes one image, not {'a list' if total is None else total}.")
    classes = class_list(given.classes)
    from vlmadapt.evaluation.predict import load
    from vlmadapt.runs.progress import Reporter

    described = Path(given.descriptions) if given.descriptions else None
    predictor = load(given.run, classes, given.backbone, given.precision, described)
    stream = Path(given.stream) if given.stream else None
    if stream is not None:
        _continue_stream(predictor, stream)
    reject = _threshold(given, predictor)
    reporter = Reporter()
    answers = predictor.answers(images, given.top, raw=given.raw, reject=reject, workers=given.workers)
    summary = Summary()
    with ExitStack() as open_files, reporter.bar("predicting", total):
        sinks = _sinks(given, predictor, open_files)
        for prediction in _readable(answers, summary, given.skip_corrupt, reporter.advance):
            summary.classes[prediction.name] += 1
            for sink in sinks:
                sink(prediction)
    if stream is not None:
        predictor.save_stream(stream)
    if given.explain is not None:
        _explain(predictor, Path(next(iter(images))), given)
    _finish(given, summary)


def _continue_stream(predictor: Predictor, stream: Path) -> None:
    """Continue the stream in a file, or start one that will be saved there."""
    if exists(stream):
        predictor.continue_stream(stream)
        return
    predictor.save_stream(stream)  # raises for a method without streams
    print(f"'{stream}' does not exist; a new stream starts.", file=sys.stderr)


def _explain(predictor: Predictor, image: Path, given: Namespace) -> None:
    """Draw what the answer for an image rests on."""
    from vlmadapt.deploy.explain import draw, explain

    found = explain(predictor, image, given.explain_by)
    draw(predictor, image, found, Path(given.explain))
    because = f": {found.because}" if found.because else ""
    print(f"why: {given.explain} ({found.kind}{because})", file=sys.stderr)


def _parser() -> ArgumentParser:
    parser = new_parser("predict", DESCRIPTION)
    parser.add_argument("run", type=str, help="run folder, or hf:OWNER/NAME")
    parser.add_argument(
        "images",
        type=str,
        nargs="+",
        help="image files, folders, patterns like 'photos/*.jpg', or - for a list on stdin",
    )
    parser.add_argument("--recursive", action="store_true", help="read the folders inside folders too")
    parser.add_argument("--top", type=int, default=5, help="number of classes for each image")
    add_classes(parser)
    add_backbone(parser)
    add_descriptions(parser)
    add_precision(parser)
    parser.add_argument("--out", type=Path | None, default=None, metavar="FILE", help="write a .csv or .jsonl file")
    parser.add_argument(
        "--explain", type=str | None, default=None, metavar="PNG", help="draw what the answer for one image rests on"
    )
    parser.add_argument(
        "--explain_by",
        type=Literal["gradient", "occlusion"] | None,
        default=None,
        help="kind of that map; by default a gradient map where method and image tower allow it",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON line for each image")
    parser.add_argument(
        "--sort_into", type=Path | None, default=None, metavar="DIR", help="link each image into a folder of its class"
    )
    parser.add_argument("--copy", action="store_true", help="copy images for --sort_into instead of linking them")
    parser.add_argument(
        "--reject",
        type=float | None,
        default=None,
        metavar="SHARE",
        help="name no class for images less certain than this share of the run's validation images: 0.05",
    )
    parser.add_argument(
        "--reject_by",
        type=Literal["probability", "energy", "method"],
        default="probability",
        help="certainty for --reject: the largest probability, the log-sum-exp of the scores, or the method's own, if "
        "it has one",
    )
    parser.add_argument(
        "--reject_below",
        type=float | None,
        default=None,
        metavar="P",
        help="name no class for images whose largest probability is below this",
    )
    parser.add_argument(
        "--stream",
        type=str | None,
        default=None,
        help="file with the state of a stream (tda): it is continued if the file exists, and saved there afterwards",
    )
    parser.add_argument("--raw", action="store_true", help="probabilities without the temperature that `fit` found")
    parser.add_argument("--skip_corrupt", action="store_true", help="skip and list images that cannot be read")
    parser.add_argument("--workers", type=int | None, default=None, help="threads that decode; by default one per core")
    return parser


def _check(given: Namespace) -> None:
    """Refuse what cannot be meant.

    Raises:
        DataError: the message says what to write instead.
    """
    if given.top < 1:
        raise DataError(f"--top is {given.top}; name at least one class.")
    if given.workers is not None and given.workers < 1:
        raise DataError(f"--workers is {given.workers}; at least one thread has to decode.")
    for name in ("reject", "reject_below"):
        if (value := getattr(given, name)) is not None and not 0 < value < 1:
            raise DataError(f"--{name} is {value}; it has to lie between 0 and 1.")
    if given.copy and given.sort_into is None:
        raise DataError("--copy says how images get into the folders of --sort_into; name the folder there.")
    if given.reject_by != "probability" and given.reject is None:
        raise DataError("--reject_by says what --reject compares; give a share there, like --reject 0.05.")
    if given.explain_by is not None and given.explain is None:
        raise DataError("--explain_by says how to draw the map of --explain; name its file there.")
    if given.reject is not None and given.reject_below is not None:
        raise DataError("--reject and --reject_below both set the threshold; give one of them.")
    if given.out is not None:
        from vlmadapt.evaluation.prediction_files import check_ending

        check_ending(given.out)


def _images(given: Namespace) -> tuple[Iterable[str], int | None]:
    """Paths of images, and their number where it is known."""
    from vlmadapt.data.image_files import find_images, listed_images
    from vlmadapt.data.image_formats import unread_endings

    if given.images == ["-"]:
        return listed_images(sys.stdin), None
    found = find_images(given.images, given.recursive)
    left = f"not read: {unread_endings(found.unread)}" if found.unread else ""
    if not found.paths:
        nested = not given.recursive and any(child.is_dir() for name in given.images for child in Path(name).glob("*"))
        deeper = "--recursive reads the folders inside" if nested else ""
        raise DataError("; ".join(filter(None, [f"no images in {', '.join(given.images)}", deeper, left])) + ".")
    if left:
        print(f"{left}.", file=sys.stderr)
    return found.paths, len(found.paths)


def _threshold(given: Namespace, predictor: Predictor) -> Threshold | None:
    from vlmadapt.evaluation.predictor import Threshold

    if given.reject_below is not None:
        return Threshold(given.reject_below)
    if given.reject is None:
        return None
    chosen = predictor.threshold(given.reject, given.reject_by)
    images = counted(predictor.calibration.images if predictor.calibration else 0, "validation image")
    print(f"no class is named below the {given.reject_by} {chosen.value:.4g}, found on {images}.", file=sys.stderr)
    return chosen


def _sinks(given: Namespace, predictor: Predictor, open_files: ExitStack) -> list[Callable[[Prediction], Any]]:
    """Where predictions go."""
    from vlmadapt.cli.tables.predictions import json_line, table
    from vlmadapt.evaluation.prediction_files import prediction_file
    from vlmadapt.evaluation.sort_images import ImageSorter

    sinks: list[Callable[[Prediction], Any]] = []
    if given.out is not None:
        top = min(given.top, len(predictor.classes))
        sinks.append(open_files.enter_context(prediction_file(given.out, top)))
    if given.sort_into is not None:
        sinks.append(ImageSorter(given.sort_into, predictor.classes, given.copy).add)
    if given.json:
        sinks.append(json_line)
    elif not sinks:
        sinks.append(open_files.enter_context(table()))
    return sinks


def _readable(
    answers: Iterable[Prediction | Broken], summary: Summary, skip: bool, advance: Callable[[], None]
) -> Iterator[Prediction]:
    """The predictions among the answers; images that cannot be read are counted.

    Raises:
        DataError: an image cannot be read, and is not skipped.
    """
    from vlmadapt.evaluation.decoding import Broken

    for answer in answers:
        advance()
        if not isinstance(answer, Broken):
            yield answer
            continue
        if not skip:
            raise DataError(f"{answer.reason.rstrip('.')}; skip such images with --skip_corrupt.")
        summary.skipped += 1
        summary.broken += [answer] if len(summary.broken) < MOST else []


def _finish(given: Namespace, summary: Summary) -> None:
    """Print the summary; exit with `SKIPPED` if images were skipped."""
    from vlmadapt.cli.tables.predictions import summary_table

    if not given.json and sum(summary.classes.values()) > 1:
        summary_table(summary.classes)
    if given.out is not None:
        print(f"written: {given.out}", file=sys.stderr)
    if not summary.skipped:
        return
    for broken in summary.broken:
        print(f"skipped: {broken.reason}", file=sys.stderr)
    if summary.skipped > len(summary.broken):
        print(f"skipped: {summary.skipped - len(summary.broken):,} more", file=sys.stderr)
    sys.exit(SKIPPED)
