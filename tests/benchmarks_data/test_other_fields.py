"""Medical and remote-sensing data sets in the layouts of BiomedCoOp and APPLeNet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks_data.layouts import images, write_split
from vlmadapt.data.check import check_data
from vlmadapt.data.load import load_data
from vlmadapt.data.manage import prepare_data
from vlmadapt.errors import DataError
from vlmadapt_benchmarks import other_fields
from vlmadapt_benchmarks.benchmark import Benchmark

SETS = {source.name: source for source in vars(other_fields).values() if isinstance(source, Benchmark)}


def layout(root: Path, source: Benchmark) -> None:
    folder = root / source.folder
    images(folder / source.images[0] / "first_class", ["a.jpg", "b.png", "c.jpg"])
    images(folder / source.images[0] / "second", ["a.jpg", "b.png", "c.jpg"])
    rows = [[(f"{name}/{file}", label, text) for label, (name, text) in enumerate([("first_class", "first class"),
            ("second", "second")])] for file in ("a.jpg", "b.png", "c.jpg")]  # fmt: skip
    write_split(folder / source.split_file, *rows)


def test_there_are_eleven_medical_and_three_of_remote_sensing() -> None:
    layouts = [source.layout for source in SETS.values()]
    assert layouts.count(other_fields.BIOMEDCOOP) == 11 and layouts.count(other_fields.APPLENET) == 3


@pytest.mark.parametrize("name", SETS)
def test_as_published(name: str, tmp_path: Path) -> None:
    layout(tmp_path, SETS[name])
    data = load_data(name, root=tmp_path)
    assert data.classes == ("first class", "second") and data.templates == ("a photo of a {}.",)
    assert [len(part) for part in (data.train, data.val, data.test)] == [2, 2, 2]
    assert all(example.path.is_file() for example in data.examples)
    assert len(prepare_data(name, tmp_path, dry_run=True)) == 1
    (tmp_path / SETS[name].folder / SETS[name].split_file).unlink()
    with pytest.raises(DataError, match=f"split.*|{name}.json' is missing"):
        load_data(name, root=tmp_path)


def test_the_published_split_is_required(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load_data("btmri", root=tmp_path)
    said = str(error.value)
    assert said.count("split_BTMRI.json") == 1 and "BiomedCoOp's assets/DATASETS.md" in said


def test_counts_are_compared(tmp_path: Path) -> None:
    layout(tmp_path, SETS["busi"])
    said = str(check_data("busi", root=tmp_path))
    assert "389" in said
