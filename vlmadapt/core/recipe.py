"""Training settings of a method: published values are the defaults, and the command line can change each."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

from vlmadapt.errors import SettingError
from vlmadapt.text import counted
from vlmadapt.validation import check_range, validated

RANGES: Mapping[str, tuple[float, float]] = {
    "lr": (0, math.inf),
    "epochs": (0, math.inf),
    "steps_per_shot": (0, math.inf),
    "batch_size": (1, math.inf),
    "weight_decay": (0, math.inf),
    "momentum": (0, math.inf),
    "eps": (0, math.inf),
    "final_lr": (0, math.inf),
    "cycles": (1, math.inf),
    "views": (0, math.inf),
    "warmup_epochs": (0, math.inf),
    "warmup_lr": (0, math.inf),
    "flip": (0, 1),
}
"""Smallest and largest valid value of each number."""


Precision = Literal["fp32", "bf16", "fp16"]


class Cycle(NamedTuple):
    """A part of training with a schedule of its own.

    Attributes:
        number: from 0.
        start: first epoch, counted from 0.
        length: number of epochs.
    """

    number: int
    start: int
    length: int


@dataclass(frozen=True)
class Recipe:
    """Training settings.

    Args:
        optimizer: torch optimiser.
        lr: learning rate after the warm-up.
        epochs: passes over the support set.
        steps_per_shot: if positive, train for `steps_per_shot * shots` steps, rounded up to whole epochs, instead of
            `epochs`.
        batch_size: images per step, over all processes together.
        weight_decay: weight decay of every trainable tensor.
        momentum: momentum of SGD.
        betas: betas of Adam and AdamW.
        eps: epsilon of Adam and AdamW.
        schedule: 'cosine' changes the rate once per epoch as the published code does, 'cosine-step' once per step down
            to `final_lr`, 'constant' never.
        final_lr: where 'cosine-step' ends.
        cycles: the schedule and the optimiser's memory restart so many times within `epochs`, for methods trained in
            stages; a list gives the share of the epochs that each cycle takes.
        warmup_epochs: epochs at the constant rate `warmup_lr` before the schedule.
        warmup_lr: learning rate during the warm-up.
        augmentation: 'crop' for random crops and flips, or 'randaugment' for two random operations of RandAugment on
            the whole image.
        crop_scale: smallest and largest part of an image's area that a random crop takes.
        flip: probability of a horizontal flip.
        views: random views of each training image; epoch e shows view e modulo `views`. 0 draws a new view in every
            epoch. While a method leaves the image tower untouched, each view passes through it only once.
        precision: 'fp32', or 'bf16' / 'fp16' for mixed precision.
    """

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = 2e-3
    epochs: int = 50
    steps_per_shot: int = 0
    batch_size: int = 32
    weight_decay: float = 5e-4
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    schedule: Literal["cosine", "cosine-step", "constant"] = "cosine"
    final_lr: float = 0.0
    cycles: int | tuple[float, ...] = 1
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    augmentation: Literal["crop", "randaugment"] = "crop"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    views: int = 0
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        """Refuse invalid values.

        Raises:
            SettingError: a value has another type, is not among the choices or is out of range.
        """
        validated(Recipe, vars(self), "training setting", "train.")
        for name, (least, most) in RANGES.items():
            if name != "cycles" or isinstance(self.cycles, int):
                check_range(f"train.{name}", getattr(self, name), least, most)
        if not isinstance(self.cycles, int):
            _check_shares(self.cycles)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise SettingError(f"train.betas are {self.betas}; both have to be at least 0 and below 1.")
        low, high = self.crop_scale
        if not 0 < low <= high <= 1:
            valid = min(max(low, 0.01), 1), min(max(low, high, 0.01), 1)
            raise SettingError(
                f"train.crop_scale is {self.crop_scale}; both parts have to be above 0 and at most 1, the smaller one "
                f"first; the nearest valid value is {valid}."
            )

    @property
    def cycle(self) -> int:
        """Epochs of the shortest cycle."""
        return min(end - start for start, end in pairwise(self._cycle_bounds))

    def cycle_at(self, epoch: int) -> Cycle:
        """The cycle that an epoch, counted from 0, belongs to."""
        bounds = self._cycle_bounds
        number = bisect(bounds, epoch) - 1
        return Cycle(number, bounds[number], bounds[number + 1] - bounds[number])

    @property
    def _cycle_bounds(self) -> list[int]:
        """First epoch of each cycle, then the number of epochs.

        Each cycle has at least one epoch; where there are fewer epochs than cycles, the last cycles are missing.
        """
        shares = (1 / self.cycles,) * self.cycles if isinstance(self.cycles, int) else self.cycles
        epochs, cycles = max(self.epochs, 1), len(shares)
        if epochs <= cycles:
            return list(range(epochs + 1))
        bounds = [0]
        for number, share in enumerate(accumulate(shares[:-1]), start=1):
            whole = int(share * epochs + 1e-6)  # a sum of shares may end just below a whole number
            bounds.append(min(max(whole, bounds[-1] + 1), epochs - cycles + number))
        return [*bounds, epochs]

    @property
    def only_warmup(self) -> bool:
        """Whether warm-up fills all epochs, so that the schedule at `lr` never starts."""
        return self.epochs > 0 and not self.steps_per_shot and self.warmup_epochs >= self.cycle

    @property
    def extendable(self) -> bool:
        """Whether more epochs continue the same training: the learning rate does not depend on their number."""
        return self.schedule == "constant" and self.cycles == 1 and not self.steps_per_shot

    @property
    def warmup_advice(self) -> str:
        """End of a message about the training: advice if all of it is warm-up, else empty."""
        if not self.only_warmup:
            return ""
        return (
            "; all epochs are warm-up, so the method stays close to its start: use more --train.epochs, or "
            "--train.warmup_epochs 0"
        )

    def shortened_warmup(self, epochs: int) -> int:
        """Warm-up epochs in proportion to a training of `epochs`; each cycle keeps at least one other epoch.

        A longer training keeps the published warm-up.
        """
        share = round(self.warmup_epochs * epochs / max(self.epochs, 1))
        return min(share, self.warmup_epochs, replace(self, epochs=epochs).cycle - 1)

    @property
    def length(self) -> str:
        """Length of the training, for people."""
        if self.steps_per_shot:
            return f"{counted(self.steps_per_shot, 'step')} per shot in batches of {self.batch_size}"
        return f"{counted(self.epochs, 'epoch')} of batches of {self.batch_size}" if self.epochs else "no training"

    def with_epochs(self, shots: float, steps: int) -> Recipe:
        """The same recipe with `epochs` instead of `steps_per_shot`.

        Args:
            shots: support images per class.
            steps: steps in an epoch.
        """
        if not self.steps_per_shot:
            return self
        return replace(self, epochs=math.ceil(self.steps_per_shot * shots / steps), steps_per_shot=0)


def _check_shares(shares: tuple[float, ...]) -> None:
    if not shares or min(shares) <= 0 or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise SettingError(f"train.cycles is {list(shares)}; shares of the epochs have to be above 0 and to sum to 1.")
