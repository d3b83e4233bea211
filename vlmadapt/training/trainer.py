"""Gradient averaging, mixed precision and non-finite checks for one optimiser step, without waiting for the device.

The host reads nothing within a step: the learning rate, the loss scale, whether a step is skipped and where training
first failed are tensors on the device, which `StepTrainer.check` reads periodically.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import Parameter

from vlmadapt.core.backbone.precision import DTYPES, autocast
from vlmadapt.core.method import Method
from vlmadapt.core.recipe import Recipe
from vlmadapt.core.trained_copy import decay_copies_to_zero
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import PluginError, TrainingError
from vlmadapt.training.loss_scale import LossScale
from vlmadapt.training.optim import make_optimizer

AGREE_EVERY = {"cpu": 1}
"""Steps between two checks whether another process requests a stop, by device type; `AGREE_RARELY` on others."""
AGREE_RARELY = 16


class StepTrainer:
    """The optimiser of a method; implements `vlmadapt.core.method.Trainer`.

    Attributes:
        optimizer: torch optimiser over the method's parameters.
        lr: learning rate of the current step, a scalar tensor on the device.
        precision: dtype of autocast, None for full precision.
        weight: weight of this process's loss; the weights of all processes sum to 1.
        batch: number of images in the batch of all processes.
        interrupted: True if this process requests a stop.
    """

    def __init__(self, method: Method, recipe: Recipe, accelerator: Accelerator):
        self._accelerator = accelerator
        self._device = device = accelerator.device
        self.lr = torch.full((), recipe.lr, device=device)
        self._method = method
        self._parameters = list(method.parameters())
        self.optimizer = make_optimizer(recipe, self._parameters, self.lr)
        decay_copies_to_zero(self.optimizer, method.modules())
        self._whole_batch = method.whole_batch
        self.precision = DTYPES.get(recipe.precision)
        self.scale = LossScale(device, enabled=recipe.precision == "fp16")
        self.weight, self.batch = 1.0, 0
        self.interrupted = False
        self._step = torch.zeros((), dtype=torch.long, device=device)
        self._not_finite = torch.zeros((), device=device)  # 1 if this step's update has to be skipped
        self._failed = torch.full((2,), -1, dtype=torch.long, device=device)  # first steps with a bad loss, gradient
        self._stop = torch.zeros((), device=device)
        self._one = torch.ones((), device=device)

    # -- settings of a run --------------------------------------------------------------------------------------------

    def autocast(self) -> AbstractContextManager[None]:
        """The precision that forward passes run in."""
        return autocast(self._device, self.precision)

    @property
    def _trained(self) -> list[Parameter]:
        """The parameters that are trained now; a method may switch some on or off between epochs."""
        return [parameter for parameter in self._parameters if parameter.requires_grad]

    @property
    def processes(self) -> int:
        """Number of processes that train together."""
        return self._accelerator.num_processes

    @property
    def exchanges_on_device(self) -> bool:
        """Whether gradients never leave the device; gloo takes those of a GPU through the host."""
        return self.processes == 1 or self._device.type == "cpu" or torch.distributed.get_backend() == "nccl"

    @property
    def shard(self) -> tuple[int, int]:
        """Which shard of each batch this process trains on, and the number of shards; (0, 1) is the whole batch."""
        return (0, 1) if self._whole_batch else (self._accelerator.process_index, self.processes)

    def weight_of(self, images: int, total: int) -> float:
        """Weight of a loss averaged over `images` images of this process's shard, in a batch of `total`."""
        _, shards = self.shard
        copies = self.processes // shards  # mean over images of all processes
        return images / total / copies

    # -- a step -------------------------------------------------------------------------------------------------------

    def start_step(self, lr: float, weight: float, step: int, batch: int = 0) -> None:
        """Set what is known of a step before it starts.

        Args:
            lr: learning rate.
            weight: weight of this process's loss.
            step: the step's number, counted over the whole run.
            batch: number of images in the batch of all processes.
        """
        self.weight, self.batch = weight, batch
        self.lr.fill_(lr)
        self._step.fill_(step)
        self._stop.fill_(float(self.interrupted))

    def backward_and_step(self, loss: Tensor) -> None:
        """Backward pass of a loss, gradients averaged over processes, then one step of the optimiser."""
        self.apply(self._gradients(loss, keep_graph=False))

    def minimise(self, loss: Tensor) -> None:
        """Deprecated: `backward_and_step`."""
        warn_deprecated("Trainer.minimise", "Trainer.backward_and_step")
        self.backward_and_step(loss)

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        """Gradients of the loss of the whole batch, one for each trainable parameter; None if the loss ignores it."""
        return self._gradients(loss, keep_graph=True)

    def apply(self, gradients: list[Tensor | None]) -> None:
        """One step of the optimiser; it changes nothing if the loss or a gradient is not finite.

        With fp16 gradients may overflow now and then; with other precisions, and for losses, `check` raises.
        """
        gradients = self._laid_out(gradients)
        found = [g for g in gradients if g is not None]
        if not found:
            return
        overflow = torch.zeros_like(self._not_finite)
        torch._amp_foreach_non_finite_check_and_unscale_(found, overflow, self._one)
        self._note_failure(1, overflow.bool() & (not self.scale.enabled))
        self._not_finite.copy_(torch.maximum(overflow, (self._failed >= 0).any().to(overflow.dtype)))
        self.optimizer.zero_grad()
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            parameter.grad = gradient
        # Fused optimisers skip their step if this is set, as with GradScaler.
        self.optimizer.found_inf = self._not_finite  # type: ignore[attr-defined]
        self.optimizer.step()
        self.scale.update(overflow)

    def _gradients(self, loss: Tensor, keep_graph: bool) -> list[Tensor | None]:
        with torch.autocast(self._device.type, enabled=False):
            weighted = loss.float() * self.weight
            scaled = weighted * self.scale.value if self.scale.enabled else weighted
            found = torch.autograd.grad(scaled, self._trained, retain_graph=keep_graph, allow_unused=True)
        gradients, total = self._over_processes(self._laid_out(found), weighted.detach())
        self.scale.unscale([g for g in gradients if g is not None])
        self._note_failure(0, ~total.isfinite())
        return gradients

    def _laid_out(self, gradients: Iterable[Tensor | None]) -> list[Tensor | None]:
        """The same gradients, each in memory of its own, in the order of its parameter.

        Of parameters that are added, torch gives one tensor for both, which unscaling in place would scale twice.
        """
        taken: set[int] = set()

        def own(parameter: Parameter, gradient: Tensor) -> Tensor:
            laid_out = _laid_out_like(parameter, gradient)
            found = laid_out.clone() if laid_out.data_ptr() in taken else laid_out
            taken.add(found.data_ptr())
            return found

        pairs = zip(self._trained, gradients, strict=True)
        return [None if gradient is None else own(parameter, gradient) for parameter, gradient in pairs]

    def _note_failure(self, kind: int, bad: Tensor) -> None:
        """Keep the number of the first step with a bad loss (kind 0) or gradient (kind 1)."""
        first = self._failed[kind]
        first.copy_(torch.where(bad & (first < 0), self._step, first))

    def _over_processes(self, gradients: list[Tensor | None], loss: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """Sum gradients and losses, which each process has weighted, and requests to stop, in one all-reduce.

        All processes run the same method on shards of the same batch, so the same gradients are missing in all.
        """
        if self.processes == 1:
            return gradients, loss
        present = [g for g in gradients if g is not None]
        sizes = [g.numel() for g in present]
        message = torch.cat([*(g.float().flatten() for g in present), loss.reshape(1), self._stop.reshape(1)])
        *summed, loss, stop = self._accelerator.reduce(message, "sum").split([*sizes, 1, 1])
        self._stop.copy_(stop[0])
        shaped = iter([s.reshape(g.shape) for s, g in zip(summed, present, strict=True)])
        return [None if g is None else next(shaped) for g in gradients], loss[0]

    # -- between steps ------------------------------------------------------------------------------------------------

    def start_epoch(self) -> None:
        """Check that the optimiser has the method's parameters.

        Raises:
            PluginError: the method has others than those it started with, which would never be trained.
        """
        if list(map(id, self._method.parameters())) != list(map(id, self._parameters)):
            raise PluginError(
                "the method's parameters are not those that training started with, which the optimiser has; create all "
                "of them in `build` or `prepare`, write values into them (`with torch.no_grad(): p.copy_(...)`), and "
                "switch them on and off by `requires_grad`."
            )

    def check(self) -> None:
        """Raise if training has failed; the parameters are those before the failed step.

        Raises:
            TrainingError: a loss, or with other precisions than fp16 a gradient, is not finite.
        """
        loss, gradient = self._failed.tolist()
        if loss >= 0 or gradient >= 0:
            loss_first = loss >= 0 and (gradient < 0 or loss <= gradient)
            raise NotFinite("loss", loss) if loss_first else NotFinite("gradient", gradient)

    def must_stop(self, step: int, last: bool) -> bool:
        """Whether the run has to stop after a step, at the same one in all processes.

        Args:
            step: its number in the epoch.
            last: whether it ends the epoch.
        """
        if self.processes == 1:
            return self.interrupted
        if not last and not self.agrees_after(step):
            return False
        self.interrupted = bool(self._stop)
        return self.interrupted

    def agrees_after(self, step: int) -> bool:
        """Whether all processes read from the device after this step of an epoch."""
        return step % AGREE_EVERY.get(self._device.type, AGREE_RARELY) == 0

    def restart(self) -> None:
        """Reset the optimiser's state, in place."""
        for state in self.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def load(self, state: Mapping[int, Mapping[str, Tensor]], loss_scale: dict[str, float]) -> None:
        """Restore the optimiser's state, by the index of each parameter, and the loss scale."""
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": dict(state), "param_groups": groups})
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr  # loading has replaced it by a copy
        for parameter, values in self.optimizer.state.items():
            for name, value in values.items():
                values[name] = _laid_out_like(parameter, value) if value.shape == parameter.shape else value
        self.scale.load(loss_scale)

    def sum_over_processes(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.processes == 1:
            return values
        return self._accelerator.reduce(values.to(self._device), "sum")

    def tensors(self) -> Iterator[Tensor]:
        """Everything besides the method that a step changes."""
        yield from self.scale.tensors()
        yield from (self._not_finite, self._failed, self._stop)
        for state in self.optimizer.state.values():
            yield from state.values()


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A gradient or moment with the strides of its parameter.

    Fused optimisers pair the values of these tensors as they lie in memory; on a CPU torch does not check their order.
    """
    strides = zip(parameter.shape, parameter.stride(), value.stride(), strict=True)
    same = all(size == 1 or one == other for size, one, other in strides)
    return value if same else torch.empty_like(parameter).copy_(value)


class NotFinite(TrainingError):
    """A loss or a gradient that is not finite.

    Attributes:
        step: number of the first such step of the run, from 0.
    """

    def __init__(self, what: str, step: int):
        super().__init__(f"the {what} is not finite")
        self.step = step
