"""Training progress: position and logged numbers, saved and shown."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class TrainingProgress:
    """Position in a training run, with its logged numbers.

    Attributes:
        epoch: current epoch from 0; equals the number of epochs once training is done.
        step: steps done in the current epoch.
        sums: running sums over the images of the current epoch.
        history: logged numbers of each finished epoch.
        seconds: time spent in steps so far.
        steps: steps done in all epochs.
        best: tensors of the method after its best epoch; empty unless that is looked for, see
            `vlmadapt.training.select`.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)

    def summary(self) -> str:
        """Loss and accuracy of the current epoch so far, of the last one before this epoch's first numbers are read."""
        if self.sums.get("images"):
            images = self.sums["images"]
            return _said(self.epoch + 1, self.sums["loss"] / images, self.sums["correct"] / images)
        if self.history:
            last = self.history[-1]
            return _said(last["epoch"], last["loss"], last["train_accuracy"])
        return f"epoch {self.epoch + 1}"


def _said(epoch: int, loss: float, accuracy: float) -> str:
    return f"epoch {epoch}  loss {loss:.3f}  acc {100 * accuracy:.1f}%"
