"""Training pictures of the image tower: held-out splits, concept labels, sampling and augmentation."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from openmoji_manifest import concept_of
from sources import VALIDATION_SET
from torch import Tensor
from torch.nn import functional as F

MANIFEST = Path(__file__).parent.parent / "plugins" / "vlmadapt_openmoji" / "manifest.json"
VIEWS = (0.5, 0.35, 0.15)  # probabilities of the views: plain, with contours, contours only
MEAN, STD = 0.5, 0.5  # as in the shipped preprocess configuration


def held_out(code: str) -> bool:
    """Return whether a concept (one in twelve, by a hash) is excluded from training for every artist."""
    return int(hashlib.sha256(f"held out {concept_of(code)}".encode()).hexdigest(), 16) % 12 == 0


@dataclass
class Pictures:
    """All rendered pictures and their splits.

    Attributes:
        pixels: (N, 3, 48, 48, 3) uint8, three views of each picture.
        records: set, name, code point and caption of each picture.
        concept: (N,) index of the emoji concept, -1 for clip art.
        train: indices of the training pictures.
        validation: indices of the validation artist's pictures.
        unseen: indices of the held-out concepts of all other artists.
    """

    pixels: np.ndarray
    records: list[dict[str, Any]]
    concept: Tensor
    train: np.ndarray
    validation: np.ndarray
    unseen: np.ndarray


def load(work: Path, codes: list[str]) -> Pictures:
    """Read the output of images.py, split into training, validation artist, and held-out concepts of other artists."""
    records = json.loads((work / "pictures.json").read_text())
    index = {code: i for i, code in enumerate(codes)}
    concept = torch.tensor([index.get(r["code"] or "", -1) for r in records])
    validation = np.array([r["set"] in VALIDATION_SET for r in records])
    unseen = np.array([bool(r["code"]) and held_out(r["code"]) for r in records])
    pixels = np.load(work / "pictures.npy", mmap_mode="r")
    return Pictures(
        pixels,
        records,
        concept,
        train=np.flatnonzero(~validation & ~unseen),
        validation=np.flatnonzero(validation),
        unseen=np.flatnonzero(~validation & unseen),
    )


def sampling(pictures: Pictures, subgroups: list[str], clipart: float) -> np.ndarray:
    """Return the sampling probability of each training picture.

    Subgroups are balanced by the inverse square root of their size. Country flags, which are many and mean much the
    same, get a tenth of that.

    Args:
        pictures: all pictures.
        subgroups: Unicode subgroup of every concept.
        clipart: total probability of clip art.
    """
    concept = pictures.concept.numpy()[pictures.train]
    names = np.array([*subgroups, ""])[concept]
    _, where, counts = np.unique(names, return_inverse=True, return_counts=True)
    weight = counts[where] ** -0.5 * np.where(names == "country-flag", 0.1, 1.0)
    known = concept >= 0
    weight[known] *= (1 - clipart) / weight[known].sum()
    weight[~known] *= clipart / weight[~known].sum()
    return np.asarray(weight / weight.sum())


def normalise(pixels: np.ndarray) -> Tensor:
    """Convert uint8 pixels (B, 48, 48, 3) to the tower's input (B, 3, 48, 48)."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def augment(pixels: np.ndarray, mirrored: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Shift, rotate, scale, mirror (half of those that `mirrored` allows) and recolour a batch, (B, 3, 48, 48)."""
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    n = len(x)
    angle = rng.uniform(-0.2, 0.2, n)
    scale = rng.uniform(0.85, 1.35, n)
    stretch = rng.uniform(0.9, 1.1, n)
    mirror = np.where(mirrored & (rng.random(n) < 0.5), -1, 1)
    theta = np.zeros((n, 2, 3), dtype=np.float32)
    theta[:, 0, 0], theta[:, 0, 1] = np.cos(angle) * scale * stretch * mirror, -np.sin(angle) * scale
    theta[:, 1, 0], theta[:, 1, 1] = np.sin(angle) * scale * mirror, np.cos(angle) * scale / stretch
    theta[:, :, 2] = rng.uniform(-0.15, 0.15, (n, 2))
    grid = F.affine_grid(torch.from_numpy(theta), [n, 3, *x.shape[2:]], align_corners=False)
    x = 1 + F.grid_sample(x - 1, grid, align_corners=False)  # white outside the picture

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.from_numpy(rng.uniform(low, high, (n, channels, 1, 1)).astype(np.float32))

    grey = x.mean(dim=1, keepdim=True)
    saturation = torch.where(draw(0, 1) < 0.1, torch.zeros(n, 1, 1, 1), draw(0.5, 1.3))
    x = grey + (x - grey) * saturation
    x = 1 - (1 - x) * draw(0.8, 1.2) * draw(0.9, 1.1, 3)  # white stays white
    return (x.clamp(0, 1) - MEAN) / STD


def draw_batch(pictures: Pictures, rows: np.ndarray, mirrored: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Return an augmented batch (B, 3, 48, 48) of the pictures `rows`, each in a random view."""
    view = rng.choice(len(VIEWS), len(rows), p=VIEWS)
    return augment(pictures.pixels[rows, view], mirrored[rows], rng)


def classes_of(pictures: Pictures) -> tuple[list[str], np.ndarray]:
    """Return openmoji's class names and each picture's class or -1, by code point; no openmoji picture is read."""
    images = json.loads(MANIFEST.read_text())["images"]
    names = sorted({r["class"] for r in images})
    by_code = {r["code"].replace("-FE0F", ""): names.index(r["class"]) for r in images}
    return names, np.array([by_code.get((r["code"] or "").replace("-FE0F", ""), -1) for r in pictures.records])
