"""Comparisons: run what is missing, reuse finished runs, write the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlmadapt.compare import formats
from vlmadapt.compare.aggregate import ResultRow, make_rows
from vlmadapt.compare.index import RunIndex, SplitHashes, State, state
from vlmadapt.compare.launch import Job, run_all
from vlmadapt.compare.notes import make_notes
from vlmadapt.compare.quality import Quality, qualities
from vlmadapt.compare.quality_tables import NOTE as QUALITY_NOTE
from vlmadapt.compare.quality_tables import quality_tables
from vlmadapt.compare.record import Comparison, Entry
from vlmadapt.compare.settings import CompareSettings, RunSpec, run_specs
from vlmadapt.compare.statistics import Statistics, statistics
from vlmadapt.compare.statistics_tables import statistics_tables
from vlmadapt.compare.tables import Table, make_tables
from vlmadapt.core.loading import load_backbone
from vlmadapt.errors import DataError
from vlmadapt.files import write_json, write_text
from vlmadapt.runs.lock import exclusive
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run


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


@dataclass(frozen=True)
class Results:
    """Results of a comparison.

    Attributes:
        rows: results by method, data set and number of shots.
        tables: the same as tables of text.
        notes: notes below every table.
        statistics: statistics for each number of shots; None without scipy.
        quality: calibration, selective accuracy and worst classes.
        quality_tables: the same as tables of text.
    """

    rows: list[ResultRow]
    tables: list[Table]
    notes: list[str]
    statistics: list[Statistics] | None
    quality: list[Quality]
    quality_tables: list[Table]


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


def compare(settings: CompareSettings, jobs: int = 1) -> tuple[Comparison, Results]:
    """Run what is missing and write the tables.

    Args:
        settings: settings of the comparison.
        jobs: number of runs at the same time.

    Returns:
        The comparison, with the errors of failed runs, and its results.

    Raises:
        VlmadaptError: see `plan`; or data is missing, or another process works on the same comparison.
        KeyboardInterrupt: a signal asked to stop; everything is saved, and the same call continues.
    """
    planned = plan(settings)
    for impossible in (p.error for p in planned if p.error):
        raise DataError(impossible)
    with exclusive(settings.folder):
        return _compare(settings, planned, jobs)


def _compare(settings: CompareSettings, planned: Sequence[PlannedRun], jobs: int) -> tuple[Comparison, Results]:
    """`compare` in a folder that this process owns."""
    reporter = Reporter()
    errors: dict[Path, str | None] = {}
    record = {**settings.to_json(), "jobs": jobs}
    waiting = [Job(p.spec.title, replace(p.spec.settings, out=str(p.folder))) for p in planned if p.state != State.DONE]
    if len(waiting) < len(planned):
        reporter.say(f"{len(planned) - len(waiting)} of {len(planned)} runs are already finished.")
    _record(settings, planned, errors, record).write(settings.folder)

    def done(job: Job, error: str | None) -> None:
        errors[job.folder] = error
        reporter.advance()
        reporter.say(f"[{len(errors)}/{len(waiting)}] {job.title}: {error or _outcome(job.folder)}")
        _record(settings, planned, errors, record).write(settings.folder)

    with reporter.bar("comparing", len(waiting)):
        complete = run_all(waiting, jobs, done)
    comparison = _record(settings, planned, errors, record)
    results = make_results(comparison)
    write_results(results, comparison, settings.folder)
    if not complete:
        reporter.say("stopped; all progress is saved, and the same command continues.")
        raise KeyboardInterrupt
    return comparison, results


def make_results(comparison: Comparison) -> Results:
    """Rows, tables, notes and statistics of the finished runs."""
    rows = make_rows(comparison)
    try:
        found = [statistics(comparison, rows, shots) for shots in comparison.shots]
    except ImportError:
        found = None
    quality = qualities(comparison)
    notes = [*make_notes(comparison, rows), *([QUALITY_NOTE] if quality else [])]
    return Results(rows, make_tables(comparison, rows), notes, found, quality, quality_tables(comparison, quality))


def write_results(results: Results, comparison: Comparison, folder: Path) -> None:
    """Write `table.csv`, `.md`, `.tex` and `.json`."""
    rows, notes = results.rows, results.notes
    tables = [*results.tables, *statistics_tables(results.statistics), *results.quality_tables]
    write_text(folder / "table.csv", formats.csv_table(comparison, rows, notes))
    write_text(folder / "table.md", formats.markdown(tables, notes))
    write_text(folder / "table.tex", formats.latex(tables, notes))
    found = None if results.statistics is None else [s.to_json() for s in results.statistics]
    content = {**formats.as_json(comparison, rows, notes), "statistics": found}
    write_json(folder / "table.json", {**content, "quality": formats.quality_json(results.quality)})


def _record(
    settings: CompareSettings,
    planned: Sequence[PlannedRun],
    errors: Mapping[Path, str | None],
    record: dict[str, object],
) -> Comparison:
    entries = tuple(
        Entry(s.method, s.data, s.shots, s.seed, p.folder, p.spec.recipe, p.spec.note, errors.get(p.folder))
        for p in planned
        for s in (p.spec.settings,)
    )
    return Comparison(settings.protocol, settings.backbone, settings.recipe, entries, record)


def _outcome(folder: Path) -> str:
    result = Run(folder).result() or {"accuracy": {}}
    return ", ".join(f"{name.replace('_', ' ')} {value:.2f}" for name, value in result["accuracy"].items())
