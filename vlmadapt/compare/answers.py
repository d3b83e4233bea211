"""Which test images runs answered rightly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vlmadapt.compare.record import Entry
from vlmadapt.runs.run import Run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Correct = dict[str, "NDArray[np.float64]"]
"""By group, for each test image the part of the seeds that answered it rightly, (images,)."""


def read_correct(entries: Sequence[Entry]) -> Correct:
    """Averaged over runs that differ by their seed; empty where a run did not keep its answers."""
    import numpy as np

    runs = [_run_correct(entry) for entry in entries if entry.result() is not None]
    if not runs or any(not run or run.keys() != runs[0].keys() for run in runs):
        return {}
    return {name: np.mean([run[name] for run in runs], axis=0) for name in runs[0]}


def _run_correct(entry: Entry) -> Correct:
    import numpy as np

    run = Run(entry.folder)
    answers = run.answers()
    if answers is None:
        return {}
    labels = {group["name"]: [label for _, label in group["examples"]] for group in run.manifest()["test"]}
    return {a["name"]: (np.array(a["chosen"]) == np.array(labels[a["name"]])).astype(float) for a in answers}
