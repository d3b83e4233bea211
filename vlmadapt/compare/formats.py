"""Tables as files: CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vlmadapt.compare.aggregate import ResultRow
from vlmadapt.compare.published import match
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.tables import Table

LATEX = str.maketrans({
    "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "±": r"$\pm$",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}",
})  # fmt: skip


def markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """GitHub's tables, the best accuracies in bold."""
    parts = []
    for table in tables:
        lines = [table.columns, ("---", *["---:"] * (len(table.columns) - 1))]
        lines += [_bold(table, i, "**{}**") for i in range(len(table.rows))]
        cells = [[text.replace("|", r"\|") for text in line] for line in lines]
        parts.append(f"**{table.title}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in cells))
    return "\n\n".join([*parts, "\n".join(f"- {note}" for note in notes)]) + "\n"


def latex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """`tabular`s with booktabs' rules, the best accuracies in bold, and the notes as comments below."""
    parts = []
    for table in tables:
        rows = [[text.translate(LATEX) for text in row] for row in table.rows]
        safe = Table(table.title, table.columns, tuple(map(tuple, rows)), table.best)
        lines = [f"% {table.title}", rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}", r"\toprule"]
        lines += [" & ".join(text.translate(LATEX) for text in table.columns) + r" \\", r"\midrule"]
        lines += [" & ".join(_bold(safe, i, r"\textbf{{{}}}")) + r" \\" for i in range(len(rows))]
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    return "\n\n".join([*parts, "\n".join(f"% {note}" for note in notes)]) + "\n"


def csv_table(comparison: Comparison, rows: Sequence[ResultRow], notes: Sequence[str]) -> str:
    """A line for each method, data set and number of shots, with plain numbers; the notes are in the last column."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.accuracy))
    lines = [_flat(comparison, row, metrics) | {"notes": " ".join(notes)} for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else ["method"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def as_json(comparison: Comparison, rows: Sequence[ResultRow], notes: Sequence[str]) -> dict[str, Any]:
    """Everything there is, for programs."""
    found = []
    for row in rows:
        published = match(row, comparison)
        known = ("source", "values", "flaws")
        found.append({**asdict(row), "published": published and {name: getattr(published, name) for name in known}})
    kind = {"protocol": comparison.protocol, "backbone": comparison.backbone, "recipe": comparison.recipe}
    return {**kind, "rows": found, "notes": list(notes)}


def _flat(comparison: Comparison, row: ResultRow, metrics: Sequence[str]) -> dict[str, Any]:
    published = match(row, comparison)
    line: dict[str, Any] = {
        "method": row.method,
        "data": "+".join(row.data),
        "protocol": comparison.protocol,
        "backbone": comparison.backbone,
        "shots": row.shots,
        "seeds": " ".join(map(str, row.seeds)),
        "failed": len(row.errors),
    }
    for metric in metrics:
        spread = row.accuracy.get(metric)
        value = published.values.get(metric) if published else None
        line[metric] = None if spread is None else round(spread.mean, 4)
        line[f"{metric}_std"] = None if spread is None or spread.std is None else round(spread.std, 4)
        line[f"{metric}_published"] = value
        line[f"{metric}_difference"] = None if spread is None or value is None else round(spread.mean - value, 4)
    costs = ("parameters", "step_seconds", "memory", "images_per_second")
    return line | {name: getattr(row, name) for name in costs} | {"recipe": comparison.recipe}


def _bold(table: Table, row: int, form: str) -> tuple[str, ...]:
    pairs = zip(table.rows[row], table.best, strict=True)
    return tuple(form.format(text) if row in best else text for text, best in pairs)
