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

    def summary(self, batch: int) -> str:
        """Loss and accuracy of the current epoch so far, and images per second at batches of `batch`.

        Until the numbers of an epoch are read for the first time, they are those of the epoch before, which is named.
        """
        rate = batch * self.steps / max(self.seconds, 1e-9)
        if images := self.sums.get("images"):
            loss, accuracy, of = self.sums.get("loss", 0.0) / images, self.sums.get("correct", 0.0) / images, ""
        elif self.history:
            last = self.history[-1]
            loss, accuracy, of = last.get("loss", 0.0), last["train_accuracy"], f" in epoch {last['epoch']}"
        else:
            return f"epoch {self.epoch + 1}  {rate:.0f} img/s"
        return f"epoch {self.epoch + 1}  loss {loss:.3f}  acc {100 * accuracy:.1f}%{of}  {rate:.0f} img/s"
