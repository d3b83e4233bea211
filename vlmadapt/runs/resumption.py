"""Settings that may change when a run is resumed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmadapt.core.build import method_class
from vlmadapt.errors import SettingError
from vlmadapt.runs.places import PLACES, absolute
from vlmadapt.runs.run import CONFIG, Run
from vlmadapt.runs.settings import FitSettings

CHANGEABLE = ("workers", "track", *PLACES)
"""Settings that numbers do not depend on; the images and weights at the new place have to be the same ones."""


def resumed_settings(run: Run, changes: Mapping[str, Any]) -> FitSettings:
    """Settings of a run that goes on, with some of them changed.

    `CHANGEABLE` settings may change, and `train: {epochs: N}` to more epochs where the learning rate does not depend on
    their number; `{"train": {}}` changes nothing.

    Raises:
        VlmadaptError: the run cannot be read, or a setting cannot change.
    """
    settings = run.settings()
    for name, value in changes.items():
        if name in CHANGEABLE:
            settings = replace(settings, **{name: value})
        elif name == "train" and set(value) <= {"epochs"}:
            settings = _with_epochs(settings, value.get("epochs"), run)
        else:
            first = f"train.{min(set(value) - {'epochs'})}" if name == "train" else name
            raise SettingError(f"--resume continues '{run.folder}' with its own settings; leave --{first} out.")
    return settings


def _with_epochs(settings: FitSettings, epochs: int | None, run: Run) -> FitSettings:
    from vlmadapt.core.method import Method

    before = settings.recipe.epochs
    if epochs is None or epochs == before:
        return settings
    kind = method_class(settings.method)
    counts = kind.epoch_start is Method.epoch_start and kind.epoch_end is Method.epoch_end
    if epochs < before or not settings.recipe.extendable or not counts:
        raise SettingError(
            f"--train.epochs cannot change from {before} to {epochs} in '{run.folder}': only a method that treats all "
            "epochs alike, with --train.schedule constant, can go on to more of them; start another run."
        )
    return replace(settings, train={**settings.train, "epochs": epochs})


def restarted() -> bool:
    """Whether `torchrun --max_restarts` started this process again, after one of the run's processes had failed."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"


def interrupted_run(settings: FitSettings) -> Path | None:
    """The folder to continue in if this process was started again for the same run, else None.

    Args:
        settings: resolved settings.

    Raises:
        VlmadaptError: the folder has a damaged run.
    """
    folder = Path(settings.out or "run")
    if not (restarted() and (folder / CONFIG).is_file()):
        return None
    same = Run(folder).settings().to_config() == FitSettings.from_config(absolute(settings.to_config())).to_config()
    return folder if same else None
