"""Gradient averaging, mixed precision and non-finite checks for one optimiser step."""

from __future__ import annotations

import torch
from accelerate import Accelerator
from torch import Tensor

from vlmadapt.core.method import Method
from vlmadapt.core.recipe import Recipe
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import TrainingError
from vlmadapt.training.optim import make_optimizer

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class StepTrainer:
    """The optimiser of a method; implements `vlmadapt.core.method.Trainer`.

    Attributes:
        optimizer: torch optimiser over the method's parameters.
        lr: learning rate of the current step.
        weight: weight of this process's loss; the weights of all processes sum to 1.
        interrupted: whether a process wants to stop; after a step all processes know.
    """

    def __init__(self, method: Method, recipe: Recipe, accelerator: Accelerator):
        self.optimizer = make_optimizer(recipe, method.parameters())
        self._parameters = [p for p in method.parameters() if p.requires_grad]
        self._whole_batch = method.whole_batch
        self._accelerator = accelerator
        self._device = accelerator.device
        self._dtype = DTYPES.get(recipe.precision)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.precision == "fp16")
        self.lr = recipe.lr
        self.weight = 1.0
        self.interrupted = False

    def autocast(self) -> torch.autocast:
        """The precision that forward passes run in."""
        return torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype is not None)

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return self._accelerator.num_processes

    @property
    def shard(self) -> tuple[int, int]:
        """Which shard of each batch this process trains on, and the number of shards; (0, 1) is the whole batch."""
        return (0, 1) if self._whole_batch else (self._accelerator.process_index, self.processes)

    def weight_of(self, images: int, total: int) -> float:
        """Weight of a loss averaged over `images` images of this process's shard, in a batch of `total`."""
        _, shards = self.shard
        copies = self.processes // shards  # of each image, over all processes
        return images / total / copies

    def start_step(self, lr: float, weight: float) -> None:
        """Set the learning rate and this process's weight for the coming step."""
        self.lr, self.weight = lr, weight
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def backward_and_step(self, loss: Tensor) -> None:
        """Backward pass of a loss, gradients averaged over processes, then one step of the optimiser."""
        self.apply(self._gradients(loss, keep_graph=False))

    def minimise(self, loss: Tensor) -> None:
        """Deprecated: `backward_and_step`."""
        warn_deprecated("Trainer.minimise", "Trainer.backward_and_step")
        self.backward_and_step(loss)

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Gradients of the loss of the whole batch, one for each trainable parameter; None if the loss ignores it.

        Raises:
            TrainingError: the loss, or with full precision a gradient, is not finite.
        """
        return self._gradients(loss, keep_graph=True)

    def _gradients(self, loss: Tensor, keep_graph: bool) -> list[Tensor | None]:
        with torch.autocast(self._device.type, enabled=False):
            scaled = self._scaler.scale(loss.float() * self.weight)
            own = torch.autograd.grad(scaled, self._parameters, retain_graph=keep_graph, allow_unused=True)
        found, total, stop = self._over_processes(own, loss.detach().float() * self.weight)
        self.interrupted = stop
        scale = self._scaler.get_scale() if self._scaler.is_enabled() else 1.0
        gradients: list[Tensor | None] = [None if g is None else g / scale for g in found]
        finite = all(bool(g.isfinite().all()) for g in gradients if g is not None)
        if not total.isfinite() or not (finite or self._scaler.is_enabled()):
            what = "loss" if not total.isfinite() else "gradient"
            raise TrainingError(f"the {what} is not finite")
        return gradients

    def apply(self, gradients: list[Tensor | None]) -> None:
        """One step of the optimiser; with fp16, a step whose gradients overflowed is skipped."""
        scale = self._scaler.get_scale() if self._scaler.is_enabled() else 1.0
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = None if gradient is None else gradient * scale
        self._scaler.step(self.optimizer)
        self._scaler.update()

    def state(self) -> dict[str, float]:
        """State of the gradient scaler; empty unless precision is fp16."""
        return self._scaler.state_dict()

    def load_state(self, state: dict[str, float]) -> None:
        """Restore what `state` returned."""
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state)

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.processes == 1:
            return values
        return self._accelerator.reduce(values.to(self._device), "sum")

    def _over_processes(
        self, gradients: tuple[Tensor | None, ...], loss: Tensor
    ) -> tuple[list[Tensor | None], Tensor, bool]:
        """Sum gradients and losses, which each process has weighted, in one all-reduce."""
        if self.processes == 1:
            return list(gradients), loss, self.interrupted
        sizes = [p.numel() for p in self._parameters]
        flat = [torch.zeros(n, device=self._device) if g is None else g.float().flatten()
                for n, g in zip(sizes, gradients, strict=True)]  # fmt: skip
        present = torch.tensor([float(g is not None) for g in gradients], device=self._device)
        message = torch.cat([*flat, present, loss.reshape(1), loss.new_tensor([float(self.interrupted)])])
        message = self._accelerator.reduce(message, "sum")
        *summed, present, loss, stop = message.split([*sizes, len(sizes), 1, 1])
        shaped: list[Tensor | None] = [
            g.reshape(p.shape) if used else None
            for g, p, used in zip(summed, self._parameters, present.tolist(), strict=True)
        ]
        return shaped, loss[0], bool(stop)
