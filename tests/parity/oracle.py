"""One oracle: the numbers of an official implementation and the settings they were made with."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(os.environ.get("VLMADAPT_ORACLES") or Path(__file__).parent / "oracles")


@dataclass(frozen=True)
class Oracle:
    """An oracle, or with `part` only the arrays whose names begin with that."""

    name: str
    part: str = ""

    @cached_property
    def settings(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((FOLDER / f"{self.name}.json").read_text())
        return read

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        with np.load(FOLDER / f"{self.name}.npz") as stored:
            names = [key for key in stored.files if key.startswith(self.part)]
            return {key.removeprefix(self.part): torch.from_numpy(stored[key]) for key in names}

    @property
    def run(self) -> tuple[str, str]:
        """What was run: the method, and the file of its official trainer, the first where there are several."""
        return self.settings["method"], Path(self.settings["official"]["file"].split(",")[0]).stem

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}

    def compare(self, group: str, name: str, ours: Tensor, theirs: Tensor) -> None:
        """Within the tolerance that the oracle gives for this group of arrays."""
        tolerance = self.settings["tolerance"][group]
        torch.testing.assert_close(
            ours.detach().float(), theirs.float(), **tolerance, msg=lambda m: f"{self.name}: {name}: {m}"
        )


def oracles() -> list[Oracle]:
    return [Oracle(path.stem) for path in sorted(FOLDER.glob("*.json")) if path.with_suffix(".npz").is_file()]
