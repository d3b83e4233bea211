"""Reruns of MMRL, MMRL++ and AlignedNorm by third parties, base-to-novel, three seeds.

From `docs/RESULTS.md` of Yejiaxuan/AlignedNorm-Jittor (commit cc64799). The column "Paper" has what the AlignedNorm
paper (Ma et al., ICML 2026) prints, which for MMRL and MMRL++ are reruns by AlignedNorm's authors; the column
"PyTorch FP32" has that repository's own reruns in full precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean

from vlmadapt.plugin import Published
from vlmadapt_published.tables import BACKBONES, DATA, SHOTS, rows

METHODS = {"MMRL": "mmrl", "MMRL++": "mmrl++", "AlignedNorm": "alignednorm"}
TABLE = "Yejiaxuan/AlignedNorm-Jittor (cc64799), docs/RESULTS.md"
PRINTED, FULL_PRECISION = f"AlignedNorm paper, from {TABLE}", f"PyTorch FP32 in {TABLE}"
AUTHORS = "AlignedNorm's authors"


def alignednorm_reruns() -> tuple[Published, ...]:
    """Each data set, and averages computed from them: means over data sets, and their harmonic mean."""
    found = rows("reruns_base_to_novel")
    return tuple(
        number
        for rerun in ("paper", "fp32")
        for method in METHODS
        for number in _of_method(rerun, method, [r for r in found if (r["rerun"], r["method"]) == (rerun, method)])
    )


def _of_method(rerun: str, method: str, single: Sequence[dict[str, str]]) -> Iterator[Published]:
    for row in single:
        values = {"base": float(row["base"]), "novel": float(row["novel"]), "harmonic_mean": float(row["hm"])}
        yield _published(rerun, method, frozenset({DATA[row["dataset"]]}), values)
    base, novel = (mean(float(row[name]) for row in single) for name in ("base", "novel"))
    average = {"base": base, "novel": novel, "harmonic_mean": 2 * base * novel / (base + novel)}
    rounded = {name: round(value, 2) for name, value in average.items()}
    yield _published(rerun, method, frozenset(DATA.values()), rounded)


def _published(rerun: str, method: str, data: frozenset[str], values: dict[str, float]) -> Published:
    """Of AlignedNorm the paper's numbers are its own; all others are reruns."""
    source = PRINTED if rerun == "paper" else FULL_PRECISION
    by = "Yejiaxuan/AlignedNorm-Jittor" if rerun == "fp32" else "" if method == "AlignedNorm" else AUTHORS
    return Published(source, METHODS[method], "base-to-novel", data, BACKBONES, SHOTS, values, rerun_by=by)
