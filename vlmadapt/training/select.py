"""Choice of the best epoch by validation accuracy; test images are never looked at."""

from __future__ import annotations

import torch

from vlmadapt.core.method import Method
from vlmadapt.errors import DataError, SettingError
from vlmadapt.roles import SEEN
from vlmadapt.training.loop import Observer, TrainingLoop
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.support import SupportSet

ACCURACY = "val_accuracy"
"""Name of the validation accuracy among an epoch's logged numbers, from 0 to 1."""


class BestEpoch(Observer):
    """Tests each epoch on the validation images, and keeps the tensors of the best one; of equals, the first."""

    def __init__(self, support: SupportSet):
        self._support = support

    def epoch_done(self, loop: TrainingLoop) -> None:
        """Log the validation accuracy, and keep the method's tensors if it is the highest so far."""
        progress = loop.progress
        before = max((epoch[ACCURACY] for epoch in progress.history[:-1]), default=-1.0)
        found = validation_accuracy(loop.method, self._support)
        progress.history[-1][ACCURACY] = found
        if found > before:
            progress.best = {name: value.detach().clone() for name, value in loop.method.state_dict().items()}


@torch.no_grad()
def validation_accuracy(method: Method, support: SupportSet) -> float:
    """Share of the validation images that are classified correctly, from 0 to 1."""
    method.eval()
    right, images = torch.zeros((), dtype=torch.long, device=support.device), 0
    for fwd in support.validation():
        right += (method.route(fwd, SEEN).argmax(dim=-1) == fwd.labels).sum()
        images += len(fwd.labels)
    return right.item() / images


def best_epoch(progress: TrainingProgress) -> int:
    """The epoch, from 1, whose tensors are kept."""
    best = max(progress.history, key=lambda epoch: epoch[ACCURACY])
    number: int = best["epoch"]
    return number


def check_selectable(method: str, data: str, *, trains: bool, validation: int) -> None:
    """Refuse a choice that nothing can be chosen by.

    Args:
        method: name of the method.
        data: name of the data.
        trains: whether the method is trained in epochs.
        validation: number of validation images.

    Raises:
        SettingError: the method has no epochs.
        DataError: there are no validation images.
    """
    if not trains:
        raise SettingError(f"--select best chooses an epoch, and {method} is not trained in epochs; leave it out.")
    if not validation:
        raise DataError(
            f"--select best chooses the epoch by its accuracy on validation images, and '{data}' has none of the "
            "classes trained on; add a part 'val', or leave --select out. Test images are never used for it."
        )
