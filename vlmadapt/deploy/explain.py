"""Why an image got its answer: an occlusion map (Zeiler & Fergus, ECCV 2014), for every method and tower."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlmadapt.data.images import read_image
from vlmadapt.data.transforms import test_transform
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.files import replacing

GRID = 14
"""Positions of the hiding square along each side."""
SIDE = 2 / 7
"""Side of the square as a part of the image's; squares overlap, so that the map is smooth."""
BATCH = 49
WARM = (214, 40, 57)
"""Colour of what speaks for the answer."""


@dataclass(frozen=True)
class Explanation:
    """What an answer rests on.

    Attributes:
        name: the predicted class.
        probability: its probability.
        drops: (GRID, GRID) how much of the probability is lost when the part around this place is hidden, averaged over
            the squares that cover it; below 0 where hiding makes the answer more certain.
    """

    name: str
    probability: float
    drops: Tensor


def explain(predictor: Predictor, image: Path) -> Explanation:
    """Hide each part of an image in turn, in the mean colour of the training of the backbone, and predict again.

    Raises:
        DataError: the image cannot be read.
    """
    classifier = predictor.classifier
    pixels = test_transform(classifier.backbone.preprocess_config)(read_image(image)).to(classifier.device)
    (whole,) = predictor.probabilities(pixels[None])
    chosen = int(whole.argmax())
    hidden = occlusions(*pixels.shape[1:]).to(pixels.device)
    found = [predictor.probabilities(pixels * ~part[:, None])[:, chosen] for part in hidden.split(BATCH)]
    drops = whole[chosen] - torch.cat(found)
    return Explanation(predictor.classes[chosen], float(whole[chosen]), _by_place(drops.cpu(), hidden.cpu()))


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
    covers = hidden[:, y[:, None], x[None, :]].float()
    return (drops[:, None, None] * covers).sum(dim=0) / covers.sum(dim=0)


def draw(predictor: Predictor, image: Path, explanation: Explanation, out: Path) -> None:
    """Write the image as the model sees it, in colour where the answer rests on it and grey elsewhere.

    Args:
        predictor: the one that explained.
        image: the same image.
        explanation: its explanation.
        out: PNG file to be written.
    """
    config = predictor.classifier.backbone.preprocess_config
    seen = test_transform(config)(read_image(image))
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    colours = ((seen * std + mean).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(colours)
    strength = (explanation.drops.clamp(min=0) / explanation.drops.clamp(min=0).max().clamp(min=1e-6)).numpy()
    mask = Image.fromarray((strength * 150).astype(np.uint8)).resize(picture.size, Image.Resampling.BICUBIC)
    drawn = Image.composite(Image.new("RGB", picture.size, WARM), picture.convert("L").convert("RGB"), mask)
    scale = max(1, 448 // max(drawn.size))
    both = Image.new("RGB", (2 * drawn.width, drawn.height))
    both.paste(picture, (0, 0))
    both.paste(drawn, (drawn.width, 0))
    with replacing(out) as (temporary,):
        both.resize((scale * both.width, scale * both.height), Image.Resampling.LANCZOS).save(temporary, "PNG")
