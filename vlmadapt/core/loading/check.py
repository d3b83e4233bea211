"""Verify on load that running a tower block by block reproduces the model's own forward; raise otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from vlmadapt.core.backbone import Backbone, ImageTower, TextTower
from vlmadapt.core.encode_images import FrozenImages, ImageEncoder
from vlmadapt.core.encode_text import TextEncoder
from vlmadapt.core.frozen_cache import FrozenCache
from vlmadapt.core.plan import Optimizations, TowerPlan
from vlmadapt.core.templates import Template
from vlmadapt.errors import BackboneError
from vlmadapt.text import first_line

REFERENCE = Optimizations.named("reference")
TEMPLATE, NAMES = Template("a photo of a {}."), ("cat",)


@torch.no_grad()
def check_towers(backbone: Backbone) -> None:
    """Compare each tower, run block by block, with the model's own forward.

    Raises:
        BackboneError: the two disagree.
    """
    if backbone.device.type == "meta":
        return
    if backbone.image.blocks:
        _check_image(backbone.name, backbone.image, backbone.device)
    if backbone.text.blocks:
        _check_text(backbone.name, backbone.text)


def _check_image(name: str, tower: ImageTower, device: torch.device) -> None:
    height, width = tower.size
    pixels = torch.linspace(-1, 1, 3 * height * width, device=device).reshape(1, 3, height, width)
    with _refusing(name, "image"):
        found = ImageEncoder(tower, REFERENCE).encode_zero_shot(FrozenImages(pixels), TowerPlan.untouched(tower))
    _compare(name, "image", found, tower.encode(pixels))


def _check_text(name: str, tower: TextTower) -> None:
    ids = TEMPLATE.write(NAMES, tower).ids.to(tower.device)
    with _refusing(name, "text"):
        found = TextEncoder(tower, REFERENCE, 0, FrozenCache()).encode_plain(NAMES, TEMPLATE)
    _compare(name, "text", found, tower.encode(ids))


@contextmanager
def _refusing(name: str, side: str) -> Iterator[None]:
    """Turn what goes wrong inside a tower that is misunderstood into a refusal."""
    try:
        yield
    except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise BackboneError(
            f"the {side} tower of '{name}' cannot be run block by block ({first_line(error)}); this kind of model is "
            "not supported."
        ) from error


def _compare(name: str, side: str, found: Tensor, expected: Tensor) -> None:
    difference = float((found - expected).abs().max())
    if not difference <= 1e-3 * float(expected.abs().max()):
        raise BackboneError(
            f"the {side} tower of '{name}', run block by block, does not give what the model itself gives (difference "
            f"{difference:.1e}); this kind of model is not supported."
        )
