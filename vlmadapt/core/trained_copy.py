"""Trained copies of frozen tensors and modules, of which the difference is trained, counted and saved."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn


class TrainedCopy(nn.Module):
    """A trained copy of a frozen tensor: what is trained, counted and saved is its difference, which starts at zero.

        self.projection = TrainedCopy(lambda: backbone.image.projection)
        head(IMAGE, "pooled", project=self.projection())

    Training is that of a copy, except that weight decay pulls to the frozen tensor. Published code that trains a plain
    copy pulls it to zero, see `decay_to_zero`.

    Args:
        frozen: gives the frozen tensor; it is called at every use, so that its device and precision are the current
            ones.
        decay_to_zero: weight decay pulls the copy to zero instead of to the frozen tensor.
    """

    def __init__(self, frozen: Callable[[], Tensor], decay_to_zero: bool = False):
        super().__init__()
        self._frozen = frozen
        self.decay_to_zero = decay_to_zero
        self.difference = nn.Parameter(torch.zeros_like(frozen(), dtype=torch.float32))

    @property
    def frozen(self) -> Tensor:
        """The frozen tensor in float32."""
        return self._frozen().detach().to(self.difference)

    def forward(self) -> Tensor:
        """The frozen tensor plus the trained difference, in float32."""
        return self.frozen + self.difference


def trained_copy_of(frozen: Callable[[], nn.Module], decay_to_zero: bool = False) -> nn.Module:
    """A module like a frozen one, with a `TrainedCopy` in the place of each of its parameters.

    Args:
        frozen: gives the frozen module, whose parameters are read at every use.
        decay_to_zero: as in `TrainedCopy`.
    """

    def copy_of(name: str) -> TrainedCopy:
        return TrainedCopy(lambda: frozen().get_parameter(name), decay_to_zero)

    copied = copy.deepcopy(frozen())
    for path, part in list(copied.named_modules()):
        names = tuple(name for name, _ in part.named_parameters(recurse=False))
        if names:
            copies = nn.ModuleDict({name: copy_of(f"{path}.{name}".lstrip(".")) for name in names})
            for name in names:
                delattr(part, name)
            part.copies = copies
            part.__class__ = _with_copies(part.__class__, names)
    return copied


@cache
def _with_copies(kind: Any, names: tuple[str, ...]) -> Any:
    """A subclass of a module's class in which these attributes are the values of the module's `copies`."""

    def value(name: str) -> property:
        return property(lambda part: part.copies[name]())

    return type(kind.__name__, (kind,), {name: value(name) for name in names})


def decay_copies_to_zero(optimizer: torch.optim.Optimizer, modules: Iterable[nn.Module]) -> None:
    """Let an optimiser see trained copies with `decay_to_zero` whole: each step adds the frozen tensor and removes it.

    The difference is then rounded as a copy would be, so that all steps are those of a training of the copy itself.

    Args:
        optimizer: trains the copies' differences.
        modules: those of a method, with the copies among them.
    """
    copies = [module for module in modules if isinstance(module, TrainedCopy) and module.decay_to_zero]

    def shift(sign: int) -> Callable[..., None]:
        @torch.no_grad()
        def by_frozen(*_: Any) -> None:
            for copied in copies:
                if copied.difference.grad is not None:
                    copied.difference.add_(copied.frozen, alpha=sign)

        return by_frozen

    if copies:
        optimizer.register_step_pre_hook(shift(1))
        optimizer.register_step_post_hook(shift(-1))
