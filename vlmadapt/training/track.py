"""Trackers of Accelerate (TensorBoard, Weights & Biases, MLflow, ...): the numbers of each epoch and of the test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import LoggerType

from vlmadapt.errors import SettingError, VlmadaptError, unknown
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import first_line
from vlmadapt.training.loop import Observer, TrainingLoop

PROJECT = "vlmadapt"
"""Project, experiment or run group that trackers file runs under."""


class Tracking(Observer):
    """Sends the numbers of each epoch to the trackers."""

    def __init__(self, accelerator: Accelerator):
        self._accelerator = accelerator

    def epoch_done(self, loop: TrainingLoop) -> None:
        """Send the numbers of the epoch."""
        numbers = dict(loop.progress.history[-1])
        self._accelerator.log(numbers, step=numbers.pop("epoch"))


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
def tracking(accelerator: Accelerator, settings: FitSettings) -> Iterator[None]:
    """Start the trackers of a run with its settings, and finish them when the context ends, however it ends.

    Raises:
        VlmadaptError: a tracker cannot be started, without a login for example.
    """
    if not settings.tracker_names:
        yield
        return
    try:
        accelerator.init_trackers(PROJECT, config=dict(_flat(settings.to_config())))
    except Exception as error:  # trackers raise errors of their own
        raise VlmadaptError(f"--track {settings.track} cannot be started: {first_line(error, named=True)}.") from error
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def log_test(accelerator: Accelerator, numbers: Mapping[str, Any], epochs: int) -> None:
    """Send the accuracies of the test, and of zero-shot, as numbers of the last epoch."""
    values = {f"test/{name}": percent for name, percent in numbers["accuracy"].items()}
    values |= {f"zero_shot/{name}": percent for name, percent in numbers.get("zero_shot", {}).items()}
    accelerator.log(values, step=epochs)


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, int | float | str | bool]]:
    """Nested settings as pairs of a dotted name and a plain value, which is what all trackers take."""
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, int | float | str | bool) else str(value)
