"""Whether two computations of the same thing agree, and whether scores are what they have to be."""

from __future__ import annotations

from torch import Tensor

from vlmadapt.testing.result import CheckFailed

TOLERANCE = 1e-3
"""Largest difference, as a part of the largest value: what float32 leaves of numbers computed in another order."""


def same(what: str, a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> None:
    """Compare.

    Raises:
        CheckFailed: they differ.
    """
    if a.shape != b.shape:
        raise CheckFailed(f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}.")
    scale = float(a.abs().max()) if a.numel() else 0.0
    difference = float((a - b).abs().max()) if a.numel() else 0.0
    if not difference <= tolerance * max(scale, 1e-6):
        raise CheckFailed(f"{what}: they differ by {difference:.2g} where the largest value is {scale:.2g}.")


def scores_of(images: int, classes: int, scores: Tensor) -> None:
    """See that scores are finite and (images, classes).

    Raises:
        CheckFailed: they are not.
    """
    if scores.shape != (images, classes):
        raise CheckFailed(
            f"scores for {images} images and {classes} classes have the shape {tuple(scores.shape)}.",
            "return (images, classes) from `route`.",
        )
    if not scores.isfinite().all():
        raise CheckFailed("scores are not finite.", "look for log(0), 0/0 or an overflow in `route`.")
