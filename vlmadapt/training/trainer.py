"""The optimiser's side of a training step: gradients over all processes, mixed precision, and what must never pass."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vlmadapt.core.recipe import Recipe
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import TrainingError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class StepTrainer:
    """Implements `vlmadapt.core.method.Trainer` for a loop.

    Attributes:
        lr: the rate of this step.
        share: this process's part of the global batch, by which its loss counts.
        interrupted: a process wants to stop; known to all of them after a step.
    """

    def __init__(self, method: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, accelerator: Accelerator):
        self._parameters = [p for p in method.parameters() if p.requires_grad]
        self._optimizer = optimizer
        self._accelerator = accelerator
        self._device = accelerator.device
        self._dtype = DTYPES.get(recipe.precision)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.precision == "fp16")
        self.lr = recipe.lr
        self.share = 1.0
        self.interrupted = False

    def autocast(self) -> torch.autocast:
        """The precision that forward passes run in."""
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None)

    def start_step(self, lr: float, share: float) -> None:
        """Set the rate and this process's share of the coming step."""
        self.lr, self.share = lr, share
        for group in self._optimizer.param_groups:
            group["lr"] = lr

    def backward_and_step(self, loss: Tensor) -> None:
        """Gradients of a loss over all processes, then one step."""
        self.apply(self._gradients(loss, keep_graph=False))

    def minimise(self, loss: Tensor) -> None:
        """Deprecated: `backward_and_step`."""
        warn_deprecated("Trainer.minimise", "Trainer.backward_and_step")
        self.backward_and_step(loss)

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Gradients of the global batch's loss by trainable parameter; None where the loss does not depend on it.

        Raises:
            TrainingError: the loss, or with full precision a gradient, is not finite.
        """
        return self._gradients(loss, keep_graph=True)

    def _gradients(self, loss: Tensor, keep_graph: bool) -> list[Tensor | None]:
        with torch.autocast(self._device.type, enabled=False):
            scaled = self._scaler.scale(loss.float() * self.share)
            own = torch.autograd.grad(scaled, self._parameters, retain_graph=keep_graph, allow_unused=True)
        found, total, stop = self._over_processes(own, loss.detach().float() * self.share)
        self.interrupted = stop
        scale = self._scaler.get_scale() if self._scaler.is_enabled() else 1.0
        gradients: list[Tensor | None] = [None if g is None else g / scale for g in found]
        finite = all(bool(g.isfinite().all()) for g in gradients if g is not None)
        if not total.isfinite() or not (finite or self._scaler.is_enabled()):
            what = "loss" if not total.isfinite() else "gradient"
            raise TrainingError(f"the {what} is not finite")
        return gradients

    def apply(self, gradients: list[Tensor | None]) -> None:
        """One step of the optimiser; with fp16 a step whose gradients overflowed is skipped."""
        scale = self._scaler.get_scale() if self._scaler.is_enabled() else 1.0
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient * scale
        self._scaler.step(self._optimizer)
        self._scaler.update()

    def state(self) -> dict[str, float]:
        """What the scaler remembers."""
        return self._scaler.state_dict()

    def load_state(self, state: dict[str, float]) -> None:
        """Restore `state`."""
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state)

    def _over_processes(
        self, gradients: tuple[Tensor | None, ...], loss: Tensor
    ) -> tuple[list[Tensor | None], Tensor, bool]:
        """Sum gradients and losses, which each process has weighted by its share; one message for all of it."""
        if self._accelerator.num_processes == 1:
            return list(gradients), loss, self.interrupted
        sizes = [p.numel() for p in self._parameters]
        flat = [torch.zeros(n, device=self._device) if g is None else g.float().flatten()
                for n, g in zip(sizes, gradients, strict=True)]  # fmt: skip
        present = torch.tensor([float(g is not None) for g in gradients], device=self._device)
        message = torch.cat([*flat, present, loss.reshape(1), loss.new_tensor([float(self.interrupted)])])
        message = self._accelerator.reduce(message, "sum")
        *summed, present, loss, stop = message.split([*sizes, len(sizes), 1, 1])
        shaped: list[Tensor | None] = [
            g.reshape(p.shape) if there else None
            for g, p, there in zip(summed, self._parameters, present.tolist(), strict=True)
        ]
        return shaped, loss[0], bool(stop)
