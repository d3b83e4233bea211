"""The support and validation images of an oracle, as a method is given them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.parity import tiny_clip
from vlmadapt.plugin import ForwardPass


class OracleSupport:
    """Support images whose passes differ by their seed, and validation images that resemble those of the first pass."""

    def __init__(self, settings: dict[str, Any], forward: Callable[[Tensor, Tensor], ForwardPass]):
        self.inputs = settings["inputs"]
        self.noise = settings["hyperparameters"].get("val_noise")
        self.batch_size = settings["batch_size"]
        self.forward = forward

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        for number in range(times):
            yield self.batches(self.images(number), self.inputs["support_images"]["labels"])

    def validation(self) -> Iterator[ForwardPass]:
        if "val_images" not in self.inputs:
            return iter(())
        return self.batches(self.validation_images(), self.inputs["val_images"]["labels"])

    def images(self, number: int) -> Tensor:
        chosen = self.inputs["support_images"]
        return tiny_clip.inputs(chosen["seed"] + number, chosen["n"], self.inputs["resolution"])

    def rows(self, chosen: list[int]) -> Tensor:
        """Images by their place in all passes; a place after the last is a text's, for which any image will do."""
        n = self.inputs["support_images"]["n"]
        passes = self.inputs["support_images"]["passes"]
        images = [self.images(number) for number in range(passes)]
        return torch.stack([images[row // n % passes][row % n] for row in chosen])

    def validation_images(self) -> Tensor:
        chosen = self.inputs["val_images"]
        noise = tiny_clip.inputs(chosen["seed"], chosen["n"], self.inputs["resolution"])
        return self.noise * noise + self.images(0)[chosen["val_support_index"]]

    def batches(self, images: Tensor, labels: list[int]) -> Iterator[ForwardPass]:
        for batch, wanted in zip(
            images.split(self.batch_size), torch.tensor(labels).split(self.batch_size), strict=True
        ):
            yield self.forward(batch, wanted)


@dataclass
class FirstBatch:
    """The part of a support set that says which classes there are."""

    fwd: ForwardPass

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        yield iter((self.fwd,))

    def validation(self) -> Iterator[ForwardPass]:
        return iter(())
