"""Trackers of Accelerate (TensorBoard, Weights & Biases, MLflow, ...): the numbers of each epoch and of the test."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker, get_available_trackers
from accelerate.utils import LoggerType

from vlmadapt.errors import SettingError, VlmadaptError, VlmadaptWarning, unknown
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import first_line
from vlmadapt.training.loop import Observer, TrainingLoop

PROJECT = "vlmadapt"
"""Project, experiment or run group that trackers file runs under."""
FILES = "tracking"
"""Folder in a run for the files of trackers."""


class Tracking(Observer):
    """Sends the numbers of each epoch to the trackers."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator

    def epoch_done(self, loop: TrainingLoop) -> None:
        """Send the numbers of the epoch."""
        numbers = dict(loop.progress.history[-1])
        send(self._accelerator, numbers, numbers.pop("epoch"))


def check_trackers(names: Sequence[str]) -> None:
    """Refuse trackers that do not exist or are not installed; Accelerate would leave them out without a word.

    Raises:
        SettingError: the message names the package, or the nearest tracker.
    """
    known = [str(tracker) for tracker in LoggerType.list() if tracker != "all"]
    installed = [str(tracker) for tracker in get_available_trackers()]
    for name in names:
        if name not in known:
            raise SettingError(unknown("tracker", name, known))
        if name not in installed:
            raise SettingError(f"--track {name} needs its package: pip install {name.replace('_', '-')}.")


@contextmanager
def tracking(accelerator: Accelerator, settings: FitSettings, run: Path) -> Iterator[None]:
    """Start the trackers of a run with its settings, and finish them when the context ends, however it ends.

    Args:
        accelerator: has the trackers.
        settings: settings of the run.
        run: folder of the run.

    Raises:
        VlmadaptError: a tracker cannot be started, without a login for example.
    """
    if not settings.tracker_names:
        yield
        return
    if "wandb" in settings.tracker_names:  # writes elsewhere if the folder does not exist
        (run / FILES).mkdir(parents=True, exist_ok=True)
    own = {"wandb": {"name": run.name, "dir": str(run / FILES)}, "mlflow": {"run_name": run.name},
           "trackio": {"name": run.name}}  # fmt: skip
    try:
        accelerator.init_trackers(PROJECT, config=dict(_flat(settings.to_config())), init_kwargs=own)
    except Exception as error:  # trackers raise errors of their own
        cause = first_line(error, named=True).rstrip(".")
        raise VlmadaptError(f"--track {settings.track} cannot be started: {cause}.") from error
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            with _left_out(accelerator, tracker):
                tracker.finish()


def send(accelerator: Accelerator, numbers: Mapping[str, Any], step: int) -> None:
    """Send numbers to each tracker; one that fails is left out for the rest of the run, which goes on."""
    for tracker in list(accelerator.trackers):
        with _left_out(accelerator, tracker):
            tracker.log(dict(numbers), step=step)


@contextmanager
def _left_out(accelerator: Accelerator, tracker: GeneralTracker) -> Iterator[None]:
    """Warn of an error of a tracker, and use it no more."""
    try:
        yield
    except Exception as error:  # trackers raise errors of their own
        accelerator.trackers = [other for other in accelerator.trackers if other is not tracker]
        cause = first_line(error, named=True).rstrip(".")
        warnings.warn(f"--track {tracker.name} failed and is left out from here on: {cause}.", VlmadaptWarning, 2)


def log_test(accelerator: Accelerator, numbers: Mapping[str, Any], epochs: int) -> None:
    """Send the accuracies of the test, and of zero-shot, as numbers of the last epoch."""
    values = {f"test/{name}": percent for name, percent in numbers["accuracy"].items()}
    values |= {f"zero_shot/{name}": percent for name, percent in numbers.get("zero_shot", {}).items()}
    send(accelerator, values, epochs)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float | str | bool]]:
    """Nested settings as pairs of a dotted name and a plain value, which is what all trackers take."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, int | float | str | bool) else str(value)
