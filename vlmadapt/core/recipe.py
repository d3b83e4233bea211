"""How a method is trained: the published settings are its defaults, the command line may change each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Training settings.

    Args:
        optimizer: the torch optimiser.
        lr: learning rate behind the warm-up.
        epochs: passes over the support set.
        steps_per_shot: train for so many steps times the shots instead, in whole epochs; 0 trains for `epochs`.
        batch_size: images per step, over all processes together.
        weight_decay: acts on every trainable tensor.
        momentum: of SGD.
        betas: of Adam and AdamW.
        eps: of Adam and AdamW.
        schedule: 'cosine' changes the rate once per epoch as the published code does, 'cosine-step' once per step down
            to `final_lr`, 'constant' never.
        final_lr: where 'cosine-step' ends.
        cycles: the schedule and the optimiser's memory start anew so many times within `epochs`, for methods trained in
            stages.
        warmup_epochs: epochs at the constant rate `warmup_lr` before the schedule.
        warmup_lr: that rate.
        crop_scale: smallest and largest part of an image's area that a random crop takes.
        flip: probability of a horizontal flip.
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
    cycles: int = 1
    warmup_epochs: int = 1
    warmup_lr: float = 1e-5
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @property
    def cycle(self) -> int:
        """Epochs of one cycle."""
        return max(self.epochs // self.cycles, 1)

    @property
    def only_warmup(self) -> bool:
        """Whether warm-up fills all epochs, so that the schedule at `lr` never starts."""
        return self.epochs > 0 and not self.steps_per_shot and self.warmup_epochs >= self.cycle

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
        """Warm-up epochs in proportion for a training of `epochs`; at least one epoch of each cycle is left to train.

        A longer training keeps the published warm-up.
        """
        share = round(self.warmup_epochs * epochs / max(self.epochs, 1))
        return min(share, self.warmup_epochs, max(epochs // self.cycles, 1) - 1)

    def with_epochs(self, shots: float, steps: int) -> Recipe:
        """The same with `epochs` put in the place of `steps_per_shot`.

        Args:
            shots: support images per class.
            steps: steps in an epoch.
        """
        if not self.steps_per_shot:
            return self
        return replace(self, epochs=math.ceil(self.steps_per_shot * shots / steps), steps_per_shot=0)
