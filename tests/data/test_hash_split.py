"""The split of data without parts."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import pytest

from vlmadapt.data.hash_split import hash_split, position


def parts(names: list[str]) -> dict[str, str]:
    split = hash_split({"c": [Path(name) for name in names]}, str)
    return {path.name: part for part, files in zip(("train", "val", "test"), split, strict=True) for path in files["c"]}


def test_shares_are_close_to_their_expected_values() -> None:
    found = list(parts([f"{i}.png" for i in range(20_000)]).values())
    for part, share in (("train", 0.5), ("val", 0.2), ("test", 0.3)):
        assert found.count(part) / len(found) == pytest.approx(share, abs=0.015)


def test_each_file_is_where_its_own_hash_says() -> None:
    for name, part in parts([f"{i}.png" for i in range(200)]).items():
        place = position(name)
        assert part == ("train" if place < 0.5 else "val" if place < 0.7 else "test")


def test_any_subset_of_an_ordinary_class_keeps_its_parts() -> None:
    names = [f"{i}.png" for i in range(300)]
    whole = parts(names)
    chance = random.Random(0)
    for _ in range(20):
        some = chance.sample(names, 100)
        assert parts(some) == {name: whole[name] for name in some}


def test_a_class_has_a_training_image_and_one_of_two_a_test_image() -> None:
    first = [name for name in (f"{i}.png" for i in range(200)) if position(name) < 0.5]
    last = [name for name in (f"{i}.png" for i in range(200)) if position(name) >= 0.7]
    for names in (first, last):
        assert list(parts(names[:1]).values()) == ["train"]
        for count in (2, 3, 5):
            assert {"train", "test"} <= set(parts(names[:count]).values())
    moved = parts(last[:5])
    assert [name for name, part in moved.items() if part == "train"] == [min(last[:5], key=position)]


def test_accents_spelled_in_two_ways_have_one_place() -> None:
    assert position(unicodedata.normalize("NFD", "café.png")) == position("café.png")
