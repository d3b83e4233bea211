"""`configs/tables` has what was published: its methods, data sets, shots and settings files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vlmadapt import registry
from vlmadapt.compare.recipes import find_recipe
from vlmadapt.compare.settings import CompareSettings

PUBLISHED = {"table1": "table 1", "table2": "table 2", "table3": "table 3", "table10": "tables 10 and 11"}


def settings(table: str) -> CompareSettings:
    return CompareSettings(**yaml.safe_load(Path(f"configs/tables/{table}.yaml").read_text()))


def test_there_is_one_for_each_published_table() -> None:
    assert {file.stem for file in Path("configs/tables").iterdir()} == set(PUBLISHED)


@pytest.mark.parametrize("table", PUBLISHED)
def test_covers_every_published_row(table: str) -> None:
    asked = settings(table)
    asked.check()
    assert (asked.recipe, asked.seeds) == ("paper", [1, 2, 3])
    (plugin,) = (p for p in registry.plugins("vlmadapt.published") if p.name == "mmrl-paper")
    rows = [row for row in plugin.load()() if row.source.endswith(f", {PUBLISHED[table]}")]
    assert rows
    for row in rows:
        assert row.method in asked.methods
        assert row.data <= set(asked.data)
        assert (row.protocol, asked.backbone in row.backbones) == (asked.protocol, True)
        assert row.shots in asked.shots


@pytest.mark.parametrize("table", ["table2", "table3"])
def test_training_on_imagenet_for_other_data_is_as_published_for_that(table: str) -> None:
    asked = settings(table)
    with_own = {file.parent.name for file in Path("configs").glob("*/cross-dataset.yaml")}
    for method in with_own & set(asked.methods):
        recipe = find_recipe(method, asked.recipe, "imagenet", asked.protocol, 16)
        assert recipe.files == (f"{method}/cross-dataset.yaml",)
