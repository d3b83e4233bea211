"""A comparison from its settings to its tables: what is missing is run, what is there is reused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlmadapt.compare import formats
from vlmadapt.compare.aggregate import ResultRow, make_rows
from vlmadapt.compare.index import SplitHashes, RunIndex, State, state
from vlmadapt.compare.launch import Job, run_all
from vlmadapt.compare.notes import make_notes
from vlmadapt.compare.record import Comparison, Entry
from vlmadapt.compare.settings import CompareSettings, RunSpec, run_specs
from vlmadapt.compare.statistics import Statistics, statistics
from vlmadapt.compare.tables import Table, make_tables
from vlmadapt.core.loading import load_backbone
from vlmadapt.errors import DataError
from vlmadapt.files import write_json, write_text
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run


@dataclass(frozen=True)
class PlannedRun:
    """A run of the grid.

    Attributes:
        spec: what it does.
        folder: where it is, or will be.
        state: how far it is.
        error: why it cannot be run.
    """

    spec: RunSpec
    folder: Path
    state: State
    error: str | None = None


@dataclass(frozen=True)
class Results:
    """What a comparison came to.

    Attributes:
        rows: the numbers.
        tables: the same for people.
        notes: what belongs under every table.
        statistics: one for each number of shots; None without scipy.
    """

    rows: list[ResultRow]
    tables: list[Table]
    notes: list[str]
    statistics: list[Statistics] | None


def plan(settings: CompareSettings) -> list[PlannedRun]:
    """Every run of a comparison; nothing is run. Runs whose data cannot be had say so.

    Raises:
        VlmadaptError: anything else that the user can mend, like an unknown method or setting.
    """
    settings.check()
    grid = list(run_specs(settings))
    hashes = SplitHashes()
    pool = RunIndex(
        settings.folder / "runs",
        map(Path, settings.reuse),
        lambda: load_backbone(settings.backbone).fingerprint(),
    )
    planned = []
    for spec in grid:
        try:
            folder = pool.folder(spec, hashes.of(spec.settings))
            planned.append(PlannedRun(spec, folder, state(folder)))
        except DataError as error:
            planned.append(PlannedRun(spec, pool.own, State.IMPOSSIBLE, str(error)))
    return planned


def compare(settings: CompareSettings, jobs: int = 1) -> tuple[Comparison, Results]:
    """Run what is missing and write the tables.

    Args:
        settings: of the comparison.
        jobs: runs at the same time.

    Returns:
        The comparison, in which runs that failed say why, and what it came to.

    Raises:
        VlmadaptError: see `plan`; or data cannot be had.
        KeyboardInterrupt: a signal asked to stop; everything is saved, the same call goes on.
    """
    reporter = Reporter()
    planned = plan(settings)
    for impossible in (p.error for p in planned if p.error):
        raise DataError(impossible)
    errors: dict[Path, str | None] = {}
    record = {**settings.to_json(), "jobs": jobs}
    waiting = [Job(p.spec.title, replace(p.spec.settings, out=str(p.folder))) for p in planned if p.state != State.DONE]
    if len(waiting) < len(planned):
        reporter.say(f"{len(planned) - len(waiting)} of {len(planned)} runs are there already.")
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
        reporter.say("stopped; what was done is kept, the same command goes on.")
        raise KeyboardInterrupt
    return comparison, results


def make_results(comparison: Comparison) -> Results:
    """Tables, notes and statistics of the runs that have numbers."""
    rows = make_rows(comparison)
    try:
        found = [statistics(comparison, rows, shots) for shots in comparison.shots]
    except ImportError:
        found = None
    return Results(rows, make_tables(comparison, rows), make_notes(comparison, rows), found)


def write_results(results: Results, comparison: Comparison, folder: Path) -> None:
    """`table.csv`, `.md`, `.tex` and `.json`."""
    rows, tables, notes = results.rows, results.tables, results.notes
    write_text(folder / "table.csv", formats.csv_table(comparison, rows, notes))
    write_text(folder / "table.md", formats.markdown(tables, notes))
    write_text(folder / "table.tex", formats.latex(tables, notes))
    said = None if results.statistics is None else [s.to_json() for s in results.statistics]
    write_json(folder / "table.json", {**formats.as_json(comparison, rows, notes), "statistics": said})


def _record(
    settings: CompareSettings, planned: Sequence[PlannedRun], errors: Mapping[Path, str | None], record: dict[str, object]
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
