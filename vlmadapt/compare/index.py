"""Index of existing runs, looked up by a hash of settings and data instead of folder name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from enum import StrEnum
from functools import cache
from pathlib import Path

from vlmadapt.compare.settings import RunSpec, fingerprint
from vlmadapt.core.adapter import read_config
from vlmadapt.data.splits import manifest
from vlmadapt.errors import AdapterError, DataError, VlmadaptError
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.run import CONFIG, Run
from vlmadapt.runs.settings import FitSettings


class State(StrEnum):
    """Progress of a run."""

    DONE = "done"
    STARTED = "to be resumed"
    MISSING = "to be run"
    IMPOSSIBLE = "lacks its data"


class RunIndex:
    """Run folders by their fingerprint.

    Args:
        own: folder for new runs.
        others: folders of runs that may be reused.
        weights: returns the hash of the current backbone weights; called only if there is a run to reuse.
    """

    def __init__(self, own: Path, others: Iterable[Path], weights: Callable[[], str]):
        self.own = own
        self._weights = cache(weights)
        self._known: dict[str, list[Path]] = defaultdict(list)
        for folder in (own, *others):
            for config in sorted(folder.glob(f"*/{CONFIG}")):
                self._add(Run(config.parent))

    def _add(self, run: Run) -> None:
        with suppress(VlmadaptError):  # a damaged run cannot be reused
            found = fingerprint(run.settings().to_config(), run.manifest()["sha256"])
            self._known[found].append(run.folder)

    def folder(self, spec: RunSpec, data_sha256: str) -> Path:
        """Existing or future folder of a run.

        Raises:
            VlmadaptError: the result of an existing run is damaged.
        """
        found = fingerprint(spec.settings.to_config(), data_sha256)
        known = sorted(self._known[found], key=lambda folder: state(folder) is not State.DONE)
        fitting = [folder for folder in known if weights_of(folder) in (None, self._weights())]
        if fitting:
            return fitting[0]
        new = self.own / spec.folder_name(found)
        return new.with_name(f"{new.name}-{self._weights()[:8]}") if known else new


def weights_of(folder: Path) -> str | None:
    """Hash of the backbone weights that a run was trained on; None if it has not saved its adapter yet."""
    try:
        return read_config(Run(folder).adapter).backbone["sha256"]
    except AdapterError:
        return None


def state(folder: Path) -> State:
    """Progress of the run in a folder.

    Raises:
        VlmadaptError: its result is damaged.
    """
    if not (folder / CONFIG).is_file():
        return State.MISSING
    return State.DONE if Run(folder).result() is not None else State.STARTED


class SplitHashes:
    """Hashes of the splits that runs use; every data set is read once."""

    def __init__(self) -> None:
        self._inputs: dict[str, Inputs | DataError] = {}
        self._known: dict[tuple[str, int, int, bool], str] = {}

    def of(self, settings: FitSettings) -> str:
        """SHA-256 of a run's split.

        Args:
            settings: settings of a run; runs of one comparison differ only in method, data, shots and seed.

        Raises:
            DataError: the data is missing or cannot be split as the protocol requires.
        """
        key = (settings.data, settings.shots, settings.seed, settings.spec.unlabelled)
        if key not in self._known:
            inputs = self._read(settings)
            self._known[key] = manifest(replace(inputs, settings=settings).splits())["sha256"]
        return self._known[key]

    def _read(self, settings: FitSettings) -> Inputs:
        if settings.data not in self._inputs:
            try:
                self._inputs[settings.data] = Inputs.read(settings)
            except DataError as error:
                self._inputs[settings.data] = error
        found = self._inputs[settings.data]
        if isinstance(found, DataError):
            raise found
        return found
