"""`report`: a comparison, or runs of `fit`, as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from vlmadapt.compare.compare import Results, make_results
from vlmadapt.compare.record import COMPARISON, Comparison, comparison_of
from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.titles import short_title
from vlmadapt.files import write_text
from vlmadapt.report.content import data_titles, make_charts, make_details, make_findings, make_page_tables
from vlmadapt.report.style import marker_svg, series_styles
from vlmadapt.report.thumbnails import thumbnail

MANY = 4
"""Most data sets that the title names."""


def report(folders: Sequence[Path], out: Path) -> Path:
    """Write the report.

    Args:
        folders: folder of one comparison, or run folders.
        out: file to be written.

    Raises:
        VlmadaptError: no run is finished, a file is damaged, or matplotlib or jinja2 is missing.
    """
    comparison = open_comparison(folders)
    results = make_results(comparison)
    if not any(row.accuracy for row in results.rows):
        raise VlmadaptError(f"no run of '{folders[0]}' is finished yet; nothing to report.")
    write_text(out, render(comparison, results))
    return out


def open_comparison(folders: Sequence[Path]) -> Comparison:
    """Open a comparison, or treat runs as one.

    Raises:
        VlmadaptError: a folder holds neither, a comparison is given together with other folders, or two runs differ
            in nothing that the page shows.
    """
    compared = [folder for folder in folders if (folder / COMPARISON).is_file()]
    if not compared:
        found = comparison_of(folders)
        _check_distinct(found)
        return found
    if len(folders) > 1:
        raise VlmadaptError(f"'{compared[0]}' is a comparison; report it alone, or runs without it.")
    return Comparison.read(compared[0])


def _check_distinct(comparison: Comparison) -> None:
    """Refuse runs that a table cannot tell apart: of one row and seed, one would hide the other.

    Raises:
        VlmadaptError: the message names two of them.
    """
    known: dict[tuple[str, str, int, int], Path] = {}
    for entry in comparison.entries:
        what = entry.method, entry.data, entry.shots, entry.seed
        if what in known:
            raise VlmadaptError(
                f"'{known[what]}' and '{entry.folder}' are both {entry.method} on {entry.data} with seed {entry.seed}; "
                "report them one at a time."
            )
        known[what] = entry.folder


def render(comparison: Comparison, results: Results) -> str:
    """Render the report as HTML."""
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise VlmadaptError("reports need jinja2: pip install 'vlmadapt[report]'.") from error
    style = series_styles(comparison.methods)
    template = (files("vlmadapt.report") / "page.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    tables = list(make_page_tables(comparison, results))
    return page.render(
        title=f"{_data(comparison)}: {comparison.protocol}",
        comparison=comparison,
        markers={method: marker_svg(style[method]) for method in comparison.methods},
        runs=[] if comparison.settings else [entry.folder for entry in comparison.entries],
        tables=[table for table in tables if table.whole],
        parts=[table for table in tables if not table.whole],
        findings=list(make_findings(results.statistics)),
        quality=results.quality_tables,
        charts=list(make_charts(results, style)),
        details=list(make_details(comparison, results)),
        notes=results.notes,
        thumbnail=thumbnail,
        short_title=short_title,
    )


def _data(comparison: Comparison) -> str:
    """The data sets, or their number if there are many."""
    names = list(data_titles(comparison.data).values())
    return ", ".join(names) if len(names) <= MANY else f"{len(names)} data sets"
