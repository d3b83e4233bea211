"""Tables of calibration, selective accuracy and worst classes."""

from __future__ import annotations

from collections.abc import Sequence

from vlmadapt.compare.quality import COVERAGE, ROLES, Quality
from vlmadapt.compare.settings import shots_text
from vlmadapt.compare.tables import Column, Table, table_of
from vlmadapt.compare.tracks import TrackPart

NOTE = (
    "More than accuracy, in percent. ECE: expected calibration error, 15 bins; Brier: squared error of the predicted "
    "class's probability; accuracy at 80 %: on the most confident images; AUROC: confidence on images of classes that "
    "were trained on against others, each among the classes it was tested with; worst class: over all seeds. Several "
    "groups of a role are averaged."
)
LOWER_IS_BETTER = ("ECE", "Brier")


def quality_tables(parts: Sequence[TrackPart], found: Sequence[Quality]) -> list[Table]:
    """A table for each data set, number of shots and track."""
    kinds = dict.fromkeys((quality.data, quality.shots) for quality in found)
    return [
        _table(part, data, shots, own)
        for data, shots in kinds
        for part in parts
        if (own := part.own([q for q in found if (q.data, q.shots) == (data, shots)]))
    ]


def _table(part: TrackPart, data: str, shots: int, found: Sequence[Quality]) -> Table:
    keys = [key for name in ("ECE", "Brier", "selective") for role in ROLES if (key := (name, role))]
    columns: list[Column] = [("method", [quality.method for quality in found], frozenset())]
    columns += [_column(found, key) for key in [*keys, ("AUROC", "")] if any(key in q.values for q in found)]
    columns += [
        (f"worst class, {role}", [_worst(quality, role) for quality in found], frozenset())
        for role in ROLES
        if any(role in quality.worst for quality in found)
    ]
    kind = f"{part.comparison.protocol} on {data}, {part.comparison.backbone}, {shots_text(shots)}"
    return table_of(", ".join(filter(None, [f"more than accuracy: {kind}", part.title])), columns)


def _column(found: Sequence[Quality], key: tuple[str, str]) -> Column:
    name, role = key
    heading = {"AUROC": "AUROC seen / unseen", "selective": f"accuracy at {100 * COVERAGE:.0f} %, {role}"}
    known = {i: round(q.values[key].mean, 2) for i, q in enumerate(found) if key in q.values}
    best = min(known.values()) if name in LOWER_IS_BETTER else max(known.values())
    texts = [str(quality.values[key]) if key in quality.values else "" for quality in found]
    marked = frozenset(i for i, value in known.items() if value == best) if len(known) > 1 else frozenset()
    return heading.get(name, f"{name}, {role}"), texts, marked


def _worst(quality: Quality, role: str) -> str:
    if role not in quality.worst:
        return ""
    name, accuracy = quality.worst[role]
    return f"{accuracy:.1f} ({name})"
