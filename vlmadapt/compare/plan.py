"""The runs of a comparison with their folders and states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlmadapt.compare.index import RunIndex, SplitHashes, State, state
from vlmadapt.compare.job import LOG, REQUESTED, Job, split_evenly
from vlmadapt.compare.settings import CompareSettings, RunSpec, data_name, run_specs
from vlmadapt.core.build import method_class
from vlmadapt.core.loading import load_backbone
from vlmadapt.errors import DataError
from vlmadapt.files import as_yaml, write_text
from vlmadapt.runs.places import absolute
from vlmadapt.text import counted


@dataclass(frozen=True)
class PlannedRun:
    """A run of the grid with its folder and state.

    Attributes:
        spec: settings and recipe of the run.
        folder: existing or future run folder.
        state: progress of the run.
        error: reason why the run is impossible, None if it is possible.
    """

    spec: RunSpec
    folder: Path
    state: State
    error: str | None = None


def plan(settings: CompareSettings) -> list[PlannedRun]:
    """List the runs of a comparison without executing them; runs whose data is missing carry an error.

    Raises:
        VlmadaptError: any other mistake of the user, like an unknown method or setting.
    """
    settings.check()
    specs = list(run_specs(settings))
    hashes = SplitHashes()
    index = RunIndex(
        settings.folder / "runs",
        map(Path, settings.reuse),
        lambda: load_backbone(settings.backbone).fingerprint(),
    )
    planned = []
    for spec in specs:
        try:
            folder = index.folder(spec, hashes.of(spec.settings))
            planned.append(PlannedRun(spec, folder, state(folder)))
        except DataError as error:
            planned.append(PlannedRun(spec, index.own, State.IMPOSSIBLE, str(error)))
    return planned


def missing(planned: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Runs without a result, each folder once."""
    return list({p.folder: p for p in planned if p.state is not State.DONE}.values())


def on_features(method: str) -> bool:
    """Whether a method works on image features alone, so that its runs share a process."""
    return not method_class(method).touches


def make_jobs(runs: Sequence[PlannedRun], at_once: int) -> list[Job]:
    """Jobs for runs: one for each, but runs of methods that use image features alone share theirs.

    Runs on the same data set make up to `at_once` jobs, each of neighbouring seeds and shots, because these share the
    features of their training images as well.
    """
    shared: dict[str, list[PlannedRun]] = {}
    single = []
    for run in runs:
        if on_features(run.spec.settings.method):
            shared.setdefault(run.spec.settings.data, []).append(run)
        else:
            single.append(Job(run.spec.title, (run.folder,)))
    jobs = []
    for data, group in shared.items():
        group.sort(key=lambda run: (run.spec.settings.shots, run.spec.settings.seed))
        for folders in split_evenly([run.folder for run in group], at_once):
            what = counted(len(folders), "run")
            jobs.append(Job(f"{what} on features of {data_name(data)}", folders))
    return [*jobs, *single]


def request(runs: Iterable[PlannedRun]) -> None:
    """Write the settings of runs where workers read them, with absolute paths, and remove logs of former attempts."""
    for run in runs:
        settings = replace(run.spec.settings, out=str(run.folder))
        write_text(run.folder / REQUESTED, as_yaml(absolute(settings.to_config())))
        (run.folder / LOG).unlink(missing_ok=True)
