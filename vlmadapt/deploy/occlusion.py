"""Occlusion maps (Zeiler & Fergus, ECCV 2014): hide each part of an image in turn and predict again.

They ask the model as it is, so they hold for every method and tower.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vlmadapt.deploy.explanation import Explanation
from vlmadapt.evaluation.predictor import Predictor

GRID = 14
"""Positions of the hiding square along each side."""
SIDE = 2 / 7
"""Side of the square as a part of the image's; squares overlap, so that the map is smooth."""
KIND = "occlusion map"


def by_occlusion(predictor: Predictor, seen: Tensor, because: str = "") -> Explanation:
    """How much of the probability is lost when the part around a place is hidden, averaged over the squares there.

    Squares have the mean colour of the training of the backbone.

    Args:
        predictor: the one to explain.
        seen: the image (3, H, W) as the model sees it, uint8.
        because: why this map was chosen.
    """
    mean = torch.tensor(predictor.classifier.backbone.preprocess_config["mean"])
    colour = (255 * mean).round().byte()[:, None, None]
    hidden = occlusions(*seen.shape[1:])
    (whole,) = _probabilities(predictor, [seen])
    chosen = int(whole.argmax())
    found = _probabilities(predictor, [torch.where(part, colour, seen) for part in hidden])
    drops = whole[chosen] - found[:, chosen]
    return Explanation(predictor.classes[chosen], float(whole[chosen]), _by_place(drops, hidden), KIND, because)


def occlusions(height: int, width: int) -> Tensor:
    """Masks (GRID * GRID, H, W), True where a square hides the image; their centres are those of the grid's cells."""
    rows, columns = (_spans(length) for length in (height, width))
    return (rows[:, None, :, None] & columns[None, :, None, :]).flatten(0, 1)


def _spans(length: int) -> Tensor:
    """(GRID, length): True within half a side of each centre."""
    centres = (torch.arange(GRID) + 0.5) * length / GRID
    return (torch.arange(length) + 0.5 - centres[:, None]).abs() <= SIDE * length / 2


def _by_place(drops: Tensor, hidden: Tensor) -> Tensor:
    """Mean drop of all squares that cover the centre of each cell."""
    height, width = hidden.shape[1:]
    y, x = (((torch.arange(GRID) + 0.5) * length / GRID).long() for length in (height, width))
    covers = hidden[:, y[:, None], x[None, :]].to(drops.dtype)
    return (drops[:, None, None] * covers).sum(dim=0) / covers.sum(dim=0)


def _probabilities(predictor: Predictor, images: list[Tensor]) -> Tensor:
    """Probabilities (images, classes); where answers depend on earlier images, each follows what came before these."""
    if not predictor.classifier.method.streams:
        return torch.as_tensor(predictor.predict_proba(images))
    found = []
    for image in images:
        with _stream_unchanged(predictor):
            found.append(torch.as_tensor(predictor.predict_proba(image)))
    return torch.cat(found)


@contextmanager
def _stream_unchanged(predictor: Predictor) -> Iterator[None]:
    """Leave the stream of a method as if no image had come."""
    classifier = predictor.classifier
    state = {name: tensor.clone() for name, tensor in classifier.stream_state().items()}
    try:
        yield
    finally:
        classifier.continue_stream(state, predictor.classes, predictor.role)
