"""Comparisons: run what is missing, reuse finished runs, write the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmadapt import registry
from vlmadapt.compare import formats
from vlmadapt.compare.aggregate import ResultRow, make_rows
from vlmadapt.compare.cost import longest_first
from vlmadapt.compare.job import LOG, Job, Launcher, outcome, was_tried
from vlmadapt.compare.notes import make_notes
from vlmadapt.compare.plan import PlannedRun, make_jobs, missing, on_features, plan, request
from vlmadapt.compare.quality import Quality, qualities
from vlmadapt.compare.quality_tables import NOTE as QUALITY_NOTE
from vlmadapt.compare.quality_tables import quality_tables
from vlmadapt.compare.record import Comparison, Entry
from vlmadapt.compare.settings import CompareSettings
from vlmadapt.compare.statistics import Statistics, statistics
from vlmadapt.compare.statistics_tables import statistics_tables
from vlmadapt.compare.tables import Table, make_tables
from vlmadapt.compare.tracks import TrackPart, by_track, tracks_note
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.files import write_json, write_text
from vlmadapt.runs.lock import exclusive
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run
from vlmadapt.text import counted


@dataclass(frozen=True)
class Results:
    """Results of a comparison.

    Attributes:
        rows: results by method, data set and number of shots.
        tables: the same as tables of text.
        notes: notes below every table.
        statistics: statistics for each number of shots and track; None without scipy.
        quality: calibration, selective accuracy and worst classes.
        quality_tables: the same as tables of text.
        parts: the methods by track.
    """

    rows: list[ResultRow]
    tables: list[Table]
    notes: list[str]
    statistics: list[Statistics] | None
    quality: list[Quality]
    quality_tables: list[Table]
    parts: list[TrackPart]


def compare(
    settings: CompareSettings, jobs: int = 1, launcher: str = "local", options: Mapping[str, Any] | None = None
) -> tuple[Comparison, Results]:
    """Run what is missing and write the tables.

    Args:
        settings: settings of the comparison.
        jobs: number of jobs at the same time.
        launcher: registered name of the launcher that runs them.
        options: options of the launcher.

    Returns:
        The comparison, with the errors of failed runs, and its results.

    Raises:
        VlmadaptError: see `plan`; or data is missing, the launcher is unknown or cannot be used here, or another
            process works on the same comparison.
        KeyboardInterrupt: a signal asked to stop; everything is saved, and the same call continues.
    """
    launch: Launcher = registry.find(registry.LAUNCHERS, launcher).load()
    planned = _possible(settings)
    with exclusive(settings.folder):
        return _Comparing(settings, planned, jobs).run(launch, options or {})


def prepare(settings: CompareSettings, jobs: int = 1) -> list[Job]:
    """Make the folders of missing runs, and return the jobs that do them: command lines for any scheduler.

    `compare` with the same settings then writes the tables of what is finished, and runs what is not.

    Raises:
        VlmadaptError: see `compare`.
    """
    planned = _possible(settings)
    with exclusive(settings.folder):
        left = missing(planned)
        request(left)
        return make_jobs(left, jobs)


def _possible(settings: CompareSettings) -> list[PlannedRun]:
    """All runs.

    Raises:
        VlmadaptError: see `plan`; or data is missing.
    """
    planned = plan(settings)
    for impossible in (p.error for p in planned if p.error):
        raise DataError(impossible)
    return planned


class _Comparing:
    """A comparison in a folder that this process owns."""

    def __init__(self, settings: CompareSettings, planned: Sequence[PlannedRun], jobs: int):
        self._settings = settings
        self._planned = planned
        self._jobs = jobs
        self._waiting = missing(planned)
        self._errors: dict[Path, str | None] = {}
        self._reporter = Reporter()

    def run(self, launch: Launcher, options: Mapping[str, Any]) -> tuple[Comparison, Results]:
        """See `compare`."""
        everything = len({p.folder for p in self._planned})
        if len(self._waiting) < everything:
            self._reporter.say(f"{everything - len(self._waiting)} of {everything} runs are already finished.")
        self._write()
        if self._waiting:
            todo, at_once = counted(len(self._waiting), "run"), min(self._jobs, len(self._waiting))
            self._reporter.say(f"{todo} to do, {at_once} at a time; each writes {LOG} in its folder.")
        with self._reporter.bar("comparing", len(self._waiting)):
            complete = self._launch_all(launch, options)
        comparison = self._write()
        results = make_results(comparison)
        write_results(results, comparison, self._settings.folder)
        if not complete:
            self._reporter.say("stopped; all progress is saved, and the same command continues.")
            raise KeyboardInterrupt
        return comparison, results

    def _launch_all(self, launch: Launcher, options: Mapping[str, Any]) -> bool:
        """Launch jobs until every run was tried: a job that is killed leaves runs to others. False if stopped."""
        left = self._waiting
        request(left)
        while left:
            jobs = make_jobs(left, self._jobs)
            if self._jobs > 1:  # one at a time, seed by seed, so that an interrupted comparison has all methods
                jobs = longest_first(jobs, self._planned, self._settings.folder)
            if not launch(jobs, self._jobs, self._ended, options):
                return False
            untried = [run for run in left if run.folder not in self._errors]
            if len(untried) == len(left):
                raise VlmadaptError("no job of the launcher has started a run; its own log may say why.")
            left = untried
        return True

    def _ended(self, job: Job, cause: str | None) -> None:
        """Note the outcome of each run of a job that was tried."""
        titles = {run.folder: run.spec.title for run in self._waiting}
        for folder in job.folders:
            error = outcome(folder, cause)
            if error is None or was_tried(folder):
                self._errors[folder] = error
                self._reporter.advance()
                done = f"[{len(self._errors)}/{len(self._waiting)}]"
                self._reporter.say(f"{done} {titles[folder]}: {error or _accuracies(folder)}")
        self._write()

    def _write(self) -> Comparison:
        """Write `comparison.json` as far as it is known."""
        entries = tuple(
            Entry(s.method, s.data, p.spec.shots, p.spec.seed, p.folder, p.spec.recipe, p.spec.note, error)
            for p in self._planned
            for s, error in ((p.spec.settings, self._errors.get(p.folder)),)
        )
        s = self._settings
        shared = [method for method in s.methods if on_features(method)]
        record = {**s.to_json(), "jobs": self._jobs, "shared_process": shared}
        found = Comparison(s.protocol, s.backbone, s.recipe, entries, record)
        found.write(s.folder)
        return found


def make_results(comparison: Comparison) -> Results:
    """Rows, tables, notes and statistics of the finished runs."""
    rows, parts = make_rows(comparison), by_track(comparison)
    try:
        found = [
            statistics(part, part.own(rows), shots)
            for shots in comparison.shots
            for part in parts
            if shots in part.comparison.shots
        ]
    except ImportError:
        found = None
    quality = qualities(comparison)
    notes = [*tracks_note(parts), *make_notes(comparison, rows), *([QUALITY_NOTE] if quality else [])]
    return Results(rows, make_tables(parts, rows), notes, found, quality, quality_tables(parts, quality), parts)


def write_results(results: Results, comparison: Comparison, folder: Path) -> None:
    """Write `table.csv`, `.md`, `.tex` and `.json`."""
    rows, notes = results.rows, results.notes
    tables = [*results.tables, *statistics_tables(results.statistics), *results.quality_tables]
    write_text(folder / "table.csv", formats.csv_table(comparison, rows, notes))
    write_text(folder / "table.md", formats.markdown(tables, notes))
    write_text(folder / "table.tex", formats.latex(tables, notes))
    found = None if results.statistics is None else [s.to_json() for s in results.statistics]
    content = {**formats.as_json(comparison, rows, notes), "statistics": found}
    write_json(folder / "table.json", {**content, "quality": formats.quality_json(comparison, results.quality)})


def _accuracies(folder: Path) -> str:
    result = Run(folder).result() or {"accuracy": {}}
    return ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in result["accuracy"].items())
