"""Dynamic loss scaling for float16 on the device: the host never reads the scale within a step.

It follows `torch.amp.GradScaler`: halve the scale after a step whose gradients overflowed, double it after
`GROWTH_INTERVAL` steps without one.
"""

from __future__ import annotations

import torch
from torch import Tensor

INITIAL_SCALE = 2.0**16
GROWTH_INTERVAL = 2000


class LossScale:
    """The scale that losses are multiplied with; 1 for precisions that need none.

    Args:
        device: device of the loss.
        enabled: True if the precision is float16.

    Attributes:
        value: scalar tensor, the current scale.
    """

    def __init__(self, device: torch.device, enabled: bool):
        self.enabled = enabled
        self.value = torch.full((), INITIAL_SCALE if enabled else 1.0, device=device)
        self._good_steps = torch.zeros((), dtype=torch.int32, device=device)

    def unscale(self, gradients: list[Tensor]) -> None:
        """Divide gradients of a scaled loss by the scale, in place."""
        if self.enabled and gradients:
            torch._foreach_mul_(gradients, self.value.double().reciprocal().float())

    def update(self, overflowed: Tensor) -> None:
        """Adapt the scale after a step; `overflowed` is a scalar, not 0 if the step's gradients were not finite."""
        if self.enabled:
            torch._amp_update_scale_(self.value, self._good_steps, overflowed, 2.0, 0.5, GROWTH_INTERVAL)

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Everything that a step changes."""
        return self.value, self._good_steps

    def state(self) -> dict[str, float]:
        """What a resumed run needs; empty unless enabled."""
        return {"scale": float(self.value), "good_steps": int(self._good_steps)} if self.enabled else {}

    def load(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        if self.enabled:
            self.value.fill_(state["scale"])
            self._good_steps.fill_(state["good_steps"])
