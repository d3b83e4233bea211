"""What methods have in common that answer by the labelled images of their classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import IMAGE, SEEN, UNSEEN, DataError, ForwardPass, LossTerm, Method, Role


class SupportMethod(Method, ABC):
    """A method on frozen image features that knows its classes by their images, and no others.

    Its tensors have rows for support images or classes. How many there are is known in `prepare`, or from the state
    that is loaded, and not from the classes it is built with: an adapter may be loaded to answer for any classes, and
    it is this class that has to say that it cannot.
    """

    touches = ()
    limitations: ClassVar[dict[str, str]] = {
        "unseen-classes": "it knows classes by their images, and has none of an unseen class",
        "class-order": "it knows classes by their place in the support set, not by name",
        "added-class": "it knows classes by their images, and has none of an unseen class",
        "roles": "it knows classes by their images, and has none of an unseen class",
    }

    @property
    def answers_unseen(self) -> bool:
        """It knows classes by their images."""
        return False

    @abstractmethod
    def fitted(self) -> int:
        """The number of classes it knows."""

    @abstractmethod
    def scores(self, fwd: ForwardPass) -> Tensor:
        """Scores (B, classes) for the classes it knows."""

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy of the scores."""
        yield LossTerm("ce", 1.0, F.cross_entropy(self.route(fwd, SEEN), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The scores.

        Raises:
            DataError: these are not the classes it was fitted on.
        """
        if role is UNSEEN or len(fwd.names) != self.fitted():
            raise DataError(
                f"{type(self).__name__} knows the {self.fitted()} classes it was fitted on by their images and has no "
                f"answer for others (asked for: {len(fwd.names)} {role.value} classes); use --protocol few-shot, or a "
                "method that reads class names."
            )
        return self.scores(fwd)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take over the sizes of the state, then load it as strictly as any other."""
        for name, tensor in {**self._parameters, **self._buffers}.items():
            saved = state_dict.get(prefix + name)
            if tensor is not None and saved is not None:
                resize(tensor, saved)
        super()._load_from_state_dict(state_dict, prefix, *args)


def resize(tensor: Tensor, like: Tensor) -> None:
    """Give a tensor as many rows as another one, in place: an optimiser which holds it goes on holding it."""
    if tensor.ndim and tensor.shape[1:] == like.shape[1:]:
        tensor.data = tensor.new_zeros(like.shape)


def assign(tensor: Tensor, values: Tensor) -> None:
    """Put values of any size into a parameter or buffer."""
    tensor.data = values.detach().to(tensor).contiguous()


def collect(batches: Iterable[ForwardPass]) -> tuple[Tensor, Tensor]:
    """Unnormalised frozen image features (N, joint) and labels (N,) of all batches; N = 0 where there is none."""
    found = [(x.features(IMAGE).float(), x.labels) for x in batches]
    if not found:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.long)
    features, labels = zip(*found, strict=True)
    return torch.cat(features), torch.cat(labels)
