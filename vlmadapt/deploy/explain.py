"""Why an image got its answer: a gradient map where method and image tower allow it, else an occlusion map."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vlmadapt.data.images import read_image
from vlmadapt.data.transforms import test_transform
from vlmadapt.deploy.explanation import Explanation
from vlmadapt.deploy.gradient_map import NoGradientMap, by_gradient
from vlmadapt.deploy.occlusion import by_occlusion
from vlmadapt.errors import DataError
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.files import replacing

WARM = (214, 40, 57)
"""Colour of what speaks for the answer."""

Way = Literal["gradient", "occlusion"]


def explain(predictor: Predictor, image: Path, way: Way | None = None) -> Explanation:
    """What the answer for an image rests on.

    Args:
        predictor: the one to explain.
        image: file of the image.
        way: 'gradient' or 'occlusion'; by default the first that there is.

    Raises:
        DataError: the image cannot be read, or has no gradient map though one is asked for.
    """
    pixels = _prepared(predictor, image)
    because = ""
    if way != "occlusion":
        try:
            return by_gradient(predictor, pixels)
        except NoGradientMap as none:
            because = str(none)
            if way == "gradient":
                raise DataError(f"there is no gradient map: {because}; leave out --explain_by.") from none
    return by_occlusion(predictor, _visible(predictor, pixels), because)


def draw(predictor: Predictor, image: Path, explanation: Explanation, out: Path) -> None:
    """Write the image as the model sees it, in colour where the answer rests on it and grey elsewhere.

    Args:
        predictor: the one that explained.
        image: the same image.
        explanation: its explanation.
        out: PNG file to be written.
    """
    picture = Image.fromarray(_visible(predictor, _prepared(predictor, image)).permute(1, 2, 0).numpy())
    speaks_for = explanation.evidence.clamp(min=0)
    strength = (150 * speaks_for / speaks_for.max().clamp(min=1e-6)).numpy().astype(np.uint8)
    mask = Image.fromarray(strength).resize(picture.size, Image.Resampling.BICUBIC)
    drawn = Image.composite(Image.new("RGB", picture.size, WARM), picture.convert("L").convert("RGB"), mask)
    scale = max(1, 448 // max(drawn.size))
    both = Image.new("RGB", (2 * drawn.width, drawn.height))
    both.paste(picture, (0, 0))
    both.paste(drawn, (drawn.width, 0))
    with replacing(out) as (temporary,):
        both.resize((scale * both.width, scale * both.height), Image.Resampling.LANCZOS).save(temporary, "PNG")


def _prepared(predictor: Predictor, image: Path) -> Tensor:
    """Pixels (3, H, W) of the image itself, on the device of the backbone."""
    classifier = predictor.classifier
    return test_transform(classifier.backbone.preprocess_config)(read_image(image)).to(classifier.device)


def _visible(predictor: Predictor, pixels: Tensor) -> Tensor:
    """Prepared pixels (3, H, W) as uint8, before they were normalised."""
    config = predictor.classifier.backbone.preprocess_config
    mean, std = (torch.tensor(config[name])[:, None, None] for name in ("mean", "std"))
    return ((pixels.cpu() * std + mean).clamp(0, 1) * 255).round().byte()
