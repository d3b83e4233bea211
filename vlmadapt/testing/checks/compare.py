"""Compare two computations of the same values; validate scores."""

from __future__ import annotations

from torch import Tensor

from vlmadapt.testing.result import CheckFailed

TOLERANCE = 1e-3
"""Largest difference relative to the largest value; float32 rounding in another order stays below it."""


def same(what: str, a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> None:
    """Compare two tensors.

    Raises:
        CheckFailed: they differ.
    """
    if a.shape != b.shape:
        raise CheckFailed(f"{what}: shapes {tuple(a.shape)} and {tuple(b.shape)}.")
    if not agree(a, b, tolerance):
        scale, difference = float(a.abs().max()), float((a - b).abs().max())
        raise CheckFailed(f"{what}: they differ by {difference:.2g} where the largest value is {scale:.2g}.")


def agree(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors of one shape are the same up to rounding."""
    if not a.numel():
        return True
    return float((a - b).abs().max()) <= tolerance * max(float(a.abs().max()), 1e-6)


def scores_of(images: int, classes: int, scores: Tensor) -> None:
    """Check that scores are finite and have shape (images, classes).

    Raises:
        CheckFailed: they are not.
    """
    if scores.shape != (images, classes):
        raise CheckFailed(
            f"scores for {images} images and {classes} classes have shape {tuple(scores.shape)}.",
            "return (images, classes) from `route`.",
        )
    if not scores.isfinite().all():
        raise CheckFailed("scores are not finite.", "look for log(0), 0/0 or an overflow in `route`.")
