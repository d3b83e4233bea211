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
        trained: names of all parameters that have been trained so far; a method may switch some on or off.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    trained: list[str] = field(default_factory=list)

    def summary(self, labelled: bool = True) -> str:
        """Loss and, with labels, accuracy of this epoch so far; of the last one until numbers of this one are read."""
        if self.sums.get("images"):
            images = self.sums["images"]
            epoch, loss, accuracy = self.epoch + 1, self.sums["loss"] / images, self.sums["correct"] / images
        elif self.history:
            last = self.history[-1]
            epoch, loss, accuracy = last["epoch"], last["loss"], last.get("train_accuracy", 0.0)
        else:
            return f"epoch {self.epoch + 1}"
        return f"epoch {epoch}  loss {loss:.3f}" + (f"  acc {100 * accuracy:.1f}%" if labelled else "")
