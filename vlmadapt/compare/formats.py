"""Tables as files: CSV, Markdown, LaTeX and JSON. Names are escaped, so that none acts as markup or a formula."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vlmadapt.compare.aggregate import ResultRow
from vlmadapt.compare.leaks import leak_notes
from vlmadapt.compare.published import match, reruns
from vlmadapt.compare.quality import Quality
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.tables import Table
from vlmadapt.compare.tracks import track_of

LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "±": r"$\pm$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
})  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters of a text that spreadsheets take for a formula."""


def markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """GitHub tables with the best accuracies in bold."""
    parts = []
    for table in tables:
        lines = [list(map(_markdown, table.columns)), ["---", *["---:"] * (len(table.columns) - 1)]]
        lines += [_bold(table, i, [_markdown(text) for text in row], "**{}**") for i, row in enumerate(table.rows)]
        parts.append(f"**{_markdown(table.title)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines))
    return "\n\n".join([*parts, "\n".join(f"- {_markdown(note)}" for note in notes)]) + "\n"


def latex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """`tabular`s with booktabs rules, the best accuracies in bold, and the notes as comments below."""
    parts = []
    for table in tables:
        lines = [f"% {_one_line(table.title)}", rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}"]
        lines += [r"\toprule", " & ".join(map(_latex, table.columns)) + r" \\", r"\midrule"]
        for i, row in enumerate(table.rows):
            lines.append(" & ".join(_bold(table, i, list(map(_latex, row)), r"\textbf{{{}}}")) + r" \\")
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join([*parts, "\n".join(f"% {_one_line(note)}" for note in notes)]) + "\n"


def csv_table(comparison: Comparison, rows: Sequence[ResultRow], notes: Sequence[str]) -> str:
    """A line for each method, data set and number of shots, with plain numbers; the last column holds the notes."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.accuracy))
    lines = [_flat(comparison, row, metrics) | {"notes": " ".join(notes)} for row in rows]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_neutral, lines[0] if lines else ["method"]))
    writer.writerows(map(_neutral, line.values()) for line in lines)
    return text.getvalue()


def as_json(comparison: Comparison, rows: Sequence[ResultRow], notes: Sequence[str]) -> dict[str, Any]:
    """All results, for programs."""
    found = []
    for row in rows:
        published = match(row, comparison)
        known = ("source", "values", "flaws")
        again = [{"by": r.rerun_by, "source": r.source, "values": r.values} for r in reruns(row, comparison)]
        numbers = published and {name: getattr(published, name) for name in known}
        track = track_of(comparison, row.method)
        found.append({**asdict(row), "track": track, "published": numbers, "reruns": again})
    kind = {"protocol": comparison.protocol, "backbone": comparison.backbone, "recipe": comparison.recipe}
    return {**kind, "rows": found, "leaks": leak_notes(comparison), "notes": list(notes)}


def quality_json(comparison: Comparison, found: Sequence[Quality]) -> list[dict[str, Any]]:
    """Calibration, selective accuracy and worst classes, for programs."""
    return [
        {
            "method": quality.method,
            "track": track_of(comparison, quality.method),
            "data": quality.data,
            "shots": quality.shots,
            "values": {" ".join(key).strip(): asdict(value) for key, value in quality.values.items()},
            "worst": {role: {"class": name, "accuracy": value} for role, (name, value) in quality.worst.items()},
        }
        for quality in found
    ]


def _flat(comparison: Comparison, row: ResultRow, metrics: Sequence[str]) -> dict[str, Any]:
    published = match(row, comparison)
    line: dict[str, Any] = {
        "method": row.method,
        "track": track_of(comparison, row.method),
        "data": "+".join(row.data),
        "protocol": comparison.protocol,
        "backbone": comparison.backbone,
        "shots": row.shots,
        "seeds": " ".join(map(str, row.seeds)),
        "failed": len(row.errors),
    }
    for metric in metrics:
        ours = row.accuracy.get(metric)
        value = published.values.get(metric) if published else None
        line[metric] = None if ours is None else round(ours.mean, 4)
        line[f"{metric}_std"] = None if ours is None or ours.std is None else round(ours.std, 4)
        again = [rerun.values[metric] for rerun in reruns(row, comparison) if metric in rerun.values]
        line[f"{metric}_published"] = value
        line[f"{metric}_reruns"] = " ".join(f"{number:.2f}" for number in again)
        line[f"{metric}_difference"] = None if ours is None or value is None else round(ours.mean - value, 4)
    costs = ("parameters", "step_seconds", "memory", "images_per_second", "device")
    return line | {name: getattr(row, name) for name in costs} | {"recipe": comparison.recipe}


def _bold(table: Table, row: int, texts: Sequence[str], form: str) -> list[str]:
    pairs = zip(texts, table.best, strict=True)
    return [form.format(text) if row in best else text for text, best in pairs]


def _neutral(cell: Any) -> Any:
    """A cell that no spreadsheet evaluates; numbers stay as they are."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _markdown(text: str) -> str:
    return html.escape(_one_line(text), quote=False).replace("|", r"\|")


def _latex(text: str) -> str:
    return _one_line(text).translate(LATEX)


def _one_line(text: str) -> str:
    return " ".join(text.split())
