"""Labelled images for methods that are fitted on them: every class is noise around an image of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tests import small
from tests.parity.tiny_clip import inputs
from tests.plugins.prompt_methods import TEMPLATE, backbone
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import Method
from vlmadapt.core.templates import Template

CENTRES = 50


class FewShots:
    """A support set with as many images of each class as `shots` says, and validation images likewise.

    Each pass adds its own small noise where it is augmented. Batches are uneven, as in real life.
    """

    def __init__(
        self,
        method: Method,
        names: Sequence[str] = small.NAMES,
        shots: Sequence[int] = (3, 3, 3, 3, 3),
        held_out: Sequence[int] = (4, 4, 4, 4, 4),
        noise: float = 1.5,
    ):
        self.method, self.names = method, names
        self.train = labelled(shots, 1, noise)
        self.held_out = labelled(held_out, 2, noise)

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        images, labels = self.train
        for number in range(times):
            seen = images + 0.5 * inputs(100 + number, len(images), 16) if augmented else images
            yield self.batches(seen, labels)

    def validation(self) -> Iterator[ForwardPass]:
        return self.batches(*self.held_out)

    def batches(self, images: Tensor, labels: Tensor) -> Iterator[ForwardPass]:
        for batch, wanted in zip(images.split(4), labels.split(4), strict=True):
            if len(wanted):
                yield ForwardPass(
                    Engine(backbone()), self.method, self.names, [Template.parse(TEMPLATE)], batch, wanted
                )


def labelled(counts: Sequence[int], seed: int, noise: float) -> tuple[Tensor, Tensor]:
    """Images and labels of the classes, mixed."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    return inputs(CENTRES, len(counts), 16)[labels] + noise * inputs(seed, len(labels), 16), labels
