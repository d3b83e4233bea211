"""Images that show the same picture in other sizes, formats or qualities, mirrored, or cropped to a square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from vlmadapt.data.image_facts import ImageFacts, inspect_images
from vlmadapt.data.near_duplicates import connected, near_duplicates


def photograph(seed: int) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((400, 320), Image.Resampling.BICUBIC)


def found(folder: Path) -> set[frozenset[str]]:
    facts, broken = inspect_images(sorted(folder.iterdir()))
    assert not broken
    return {frozenset(path.name for path in group.paths) for group in near_duplicates(facts)}


def told(folder: Path) -> dict[frozenset[str], set[str]]:
    """Groups of names, and how their images differ."""
    facts, _ = inspect_images(sorted(folder.iterdir()))
    return {frozenset(path.name for path in group.paths): set(group.how) for group in near_duplicates(facts)}


def test_other_sizes_formats_and_qualities_are_found_and_other_pictures_are_not(tmp_path: Path) -> None:
    for seed in range(30):
        photograph(seed).save(tmp_path / f"{seed}.jpg", quality=92)
    photograph(3).resize((200, 160)).save(tmp_path / "half.png")
    photograph(3).save(tmp_path / "poor.jpg", quality=30)
    photograph(7).convert("RGBA").save(tmp_path / "other.webp")
    assert found(tmp_path) == {frozenset({"3.jpg", "half.png", "poor.jpg"}), frozenset({"7.jpg", "other.webp"})}


def test_mirrored_copies_are_found_and_said_to_be_mirrored(tmp_path: Path) -> None:
    for seed in range(10):
        photograph(seed).save(tmp_path / f"{seed}.jpg", quality=92)
    ImageOps.mirror(photograph(3)).resize((200, 160)).save(tmp_path / "mirrored.jpg", quality=80)
    ImageOps.flip(photograph(5)).save(tmp_path / "upside down.jpg")
    assert told(tmp_path) == {frozenset({"3.jpg", "mirrored.jpg"}): {"mirrored"}}


def test_squares_cut_out_of_the_middle_are_found_mirrored_or_not(tmp_path: Path) -> None:
    for seed in range(10):
        photograph(seed).save(tmp_path / f"{seed}.jpg", quality=92)
    middle = (40, 0, 360, 320)
    photograph(2).crop(middle).resize((224, 224)).save(tmp_path / "square.png")
    ImageOps.mirror(photograph(4).rotate(90, expand=True)).crop((0, 40, 320, 360)).save(tmp_path / "turned.png")
    ImageOps.mirror(photograph(6).crop(middle)).save(tmp_path / "mirrored.png")
    photograph(8).crop((0, 0, 320, 320)).save(tmp_path / "left.png")
    assert told(tmp_path) == {
        frozenset({"2.jpg", "square.png"}): {"cropped"},
        frozenset({"6.jpg", "mirrored.png"}): {"cropped", "mirrored"},
    }


def test_a_symmetric_picture_is_not_said_to_be_mirrored(tmp_path: Path) -> None:
    half = photograph(1)
    whole = Image.new("RGB", (800, 320))
    whole.paste(half, (0, 0))
    whole.paste(ImageOps.mirror(half), (400, 0))
    whole.save(tmp_path / "a.png")
    whole.resize((400, 160)).save(tmp_path / "b.png")
    assert told(tmp_path) == {frozenset({"a.png", "b.png"}): set()}


def test_a_local_difference_makes_another_picture(tmp_path: Path) -> None:
    photograph(1).save(tmp_path / "a.png")
    changed = photograph(1)
    changed.paste((255, 0, 0), (180, 140, 220, 180))
    changed.save(tmp_path / "b.png")
    assert found(tmp_path) == set()


def test_images_of_one_colour_are_no_evidence(tmp_path: Path) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (50, 50), "red").save(tmp_path / f"{name}.png")
    assert found(tmp_path) == set()


def test_images_are_compared_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlmadapt.data.near_duplicates.CHUNK", 4)
    small = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    facts = {Path(f"{i}"): ImageFacts((16, 16), small[i % 6]) for i in range(18)}
    groups = near_duplicates(facts)
    assert sorted(sorted(int(path.name) for path in group.paths) for group in groups) == [
        [i, i + 6, i + 12] for i in range(6)
    ]


def test_pairs_form_groups() -> None:
    assert connected([(1, 2), (3, 4), (5, 6), (4, 1)]) == [[3, 4, 1, 2], [5, 6]]
    assert connected([]) == []
