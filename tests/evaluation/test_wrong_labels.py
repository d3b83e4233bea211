"""Labels that are likely wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.world import World
from vlmadapt.data.dataset import Example
from vlmadapt.errors import DataError
from vlmadapt.evaluation.wrong_labels import doubtful, wrong_labels

COLOURS = ((220, 40, 40), (40, 200, 60), (50, 60, 220))


def drawn(folder: Path, count: int) -> list[Example]:
    """Images of a class in nearly the same colour, among them two in the colour of another class."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    found = []
    for label, colour in enumerate(COLOURS):
        for i in range(count):
            shown = COLOURS[(label + 1) % 3] if (label, i) in ((0, 3), (2, 5)) else colour
            noise = generator.integers(-30, 31, (16, 16, 3))
            pixels = (np.array(shown) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{label}-{i}.png")
            found.append(Example(folder / f"{label}-{i}.png", label))
    return found


def test_images_in_a_class_of_others_are_found(world: World, tmp_path: Path) -> None:
    examples = drawn(tmp_path / "images", 10)
    check = wrong_labels(examples, ("red", "green", "blue"), str(world.clip))
    assert {(w.path.name, w.label, w.seems) for w in check.doubted} == {
        ("0-3.png", "red", "green"),
        ("2-5.png", "blue", "red"),
    }
    assert all(w.probability < 0.5 < w.other for w in check.doubted)
    assert (check.images, check.accuracy) == (30, pytest.approx(28 / 30))


def test_the_rule_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.5, 0.5], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])
    labels = np.array([0, 0, 1, 1, 1])
    # mean of class 0 for its images: 0.7, of class 1: 0.633; image 4 reaches neither, image 2 reaches its own
    assert doubtful(probabilities, labels) == []
    assert doubtful(np.array([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2], [0.1, 0.9]]), np.array([0, 0, 1, 1])) == [
        (2, 0),
        (1, 1),
    ]


def test_few_images_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two classes or more have 5 images or more"):
        wrong_labels(drawn(tmp_path / "images", 4), ("red", "green", "blue"), str(world.clip))
