"""The training images of a run that are closest to an image, by the features that its method classifies with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vlmadapt.data.dataset import UNLABELLED, Example
from vlmadapt.data.images import read_image
from vlmadapt.data.loader import eval_batches
from vlmadapt.data.transforms import test_transform
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.runs.inputs import Inputs
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run

BATCH = 64


@dataclass(frozen=True)
class Neighbour:
    """A training image.

    Attributes:
        image: its file.
        name: its class.
        similarity: cosine of its feature with that of the image asked for.
    """

    image: Path
    name: str
    similarity: float


UNKNOWN_CLASS = "class unknown"
"""The name of the class of an image that the run was given without its label."""


class Neighbours:
    """Features of a run's training images, computed once.

    Raises:
        VlmadaptError: the data of the run cannot be read.
    """

    def __init__(self, run: Run, predictor: Predictor, reporter: Reporter):
        splits = Inputs.read(run.settings()).splits()
        self._predictor = predictor
        self._classes, self._examples = splits.classes, splits.train
        self._transform = test_transform(predictor.classifier.backbone.preprocess_config)
        self._features = self._encoded(splits.train, reporter)

    def closest(self, image: Path, count: int) -> list[Neighbour]:
        """The closest training images, closest first.

        Raises:
            DataError: the image cannot be read.
        """
        feature = self._encode(self._transform(read_image(image))[None])[0]
        found = (self._features @ feature).topk(min(count, len(self._examples)))
        chosen = [
            (self._examples[i], value) for value, i in zip(found.values.tolist(), found.indices.tolist(), strict=True)
        ]
        return [Neighbour(example.path, self._name(example.label), value) for example, value in chosen]

    def _name(self, label: int) -> str:
        return UNKNOWN_CLASS if label == UNLABELLED else self._classes[label]

    def _encoded(self, examples: tuple[Example, ...], reporter: Reporter) -> Tensor:
        parts = []
        with reporter.bar("reading training images", len(examples)):
            for batch in eval_batches(examples, self._transform, BATCH, workers=0):
                parts.append(self._encode(batch.images))
                reporter.advance(batch.total)
        return torch.cat(parts)

    @torch.inference_mode()
    def _encode(self, images: Tensor) -> Tensor:
        """Unit features (B, joint)."""
        classifier = self._predictor.classifier
        return classifier.forward(images.to(classifier.device), self._classes).image().float().cpu()
