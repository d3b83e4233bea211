"""Base class of methods that know their classes only by labelled images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import LossTerm, Method
from vlmadapt.core.side import IMAGE
from vlmadapt.errors import DataError
from vlmadapt.roles import SEEN, UNSEEN, Role


class SupportMethod(Method, ABC):
    """Base of methods on frozen image features that predict only the classes they were fitted on.

    The first dimension of its tensors counts support images or classes. This size is known in `prepare` or from the
    loaded state, not from the classes the method is built with: an adapter may be loaded for any classes, and `route`
    raises an error if they are not the fitted ones.
    """

    touches = ()
    limitations: ClassVar[dict[str, str]] = {
        "unseen-classes": "it knows classes by their support images, and an unseen class has none",
        "added-class": "it knows classes by their support images, and an unseen class has none",
        "roles": "it knows classes by their support images, and an unseen class has none",
    }

    @property
    def answers_unseen(self) -> bool:
        """False: an unseen class has no support images."""
        return False

    @abstractmethod
    def fitted(self) -> int:
        """Number of classes it was fitted on."""

    @abstractmethod
    def scores(self, fwd: ForwardPass) -> Tensor:
        """Scores (B, classes) for the fitted classes."""

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy of the scores."""
        yield LossTerm("ce", 1.0, F.cross_entropy(self.route(fwd, SEEN), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The scores (B, classes).

        Raises:
            DataError: the classes are unseen, or not as many as it was fitted on.
        """
        if role is UNSEEN or len(fwd.names) != self.fitted():
            raise DataError(
                f"{type(self).__name__} knows the {self.fitted()} classes it was fitted on by their images and cannot "
                f"predict others (asked for: {len(fwd.names)} {role.value} classes); use --protocol few-shot, or a "
                "method that reads class names."
            )
        return self.scores(fwd)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Resize the tensors to the saved sizes, then load strictly."""
        for name, tensor in {**self._parameters, **self._buffers}.items():
            saved = state_dict.get(prefix + name)
            if tensor is not None and saved is not None:
                resize(tensor, saved)
        super()._load_from_state_dict(state_dict, prefix, *args)


def resize(tensor: Tensor, like: Tensor) -> None:
    """Give a tensor the first dimension of another, in place, so that an optimiser keeps its reference to it."""
    if tensor.ndim and tensor.shape[1:] == like.shape[1:]:
        tensor.data = tensor.new_zeros(like.shape)


def assign(tensor: Tensor, values: Tensor) -> None:
    """Copy values into a parameter or buffer, whatever their size."""
    tensor.data = values.detach().to(tensor, copy=True).contiguous()


def collect(batches: Iterable[ForwardPass]) -> tuple[Tensor, Tensor]:
    """Unnormalised frozen image features (N, joint) and labels (N,) of all batches; N = 0 without batches."""
    found = [(fwd.features(IMAGE).float(), fwd.labels) for fwd in batches]
    if not found:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)
    features, labels = zip(*found, strict=True)
    return torch.cat(features), torch.cat(labels)
