"""Runs are uploaded to a stand-in of the Hub and loaded from there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import call
from tests.deploy.hub_server import Repositories, hub
from tests.world import CLASSES, World
from vlmadapt import FitResult, VlmadaptError, load
from vlmadapt.deploy.card import wilson
from vlmadapt.deploy.hub import stage
from vlmadapt.errors import AdapterError
from vlmadapt.evaluation.shared import read_shared
from vlmadapt.runs.run import Run

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Repositories]:
    from huggingface_hub import constants

    with hub() as (address, repositories):
        monkeypatch.setattr(constants, "ENDPOINT", address)
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_may_write")
        yield repositories


def test_a_pushed_run_answers_after_it_is_loaded_from_the_hub(
    capsys: Capture, world: World, base_to_novel: FitResult, shared: Repositories
) -> None:
    said = call(capsys, "push", str(base_to_novel.folder), "me/animals", "--license", "mit")
    assert said.code == 0, said.err
    assert "load it with 'hf:me/animals'" in said.out
    files = shared["me/animals"]
    assert set(files) == {"README.md", "vlmadapt.json", "adapter_config.json", "adapter_model.safetensors"}
    assert not any(b".png" in content for content in files.values()), "no file names"
    card = files["README.md"].decode()
    accuracy = base_to_novel.numbers["accuracy"]
    for part in ("license: mit", "Guo", "`mmrl`", f"| {accuracy['novel']:.2f} |", *CLASSES[:2],
                 base_to_novel.numbers["data_sha256"]):  # fmt: skip
        assert part in card
    image = sorted(world.pictures.glob("*/00.png"))[0]
    found = load("hf:me/animals", backbone=str(world.clip))
    assert found.classes == CLASSES
    expected = next(iter(load(base_to_novel.folder).predict([image], top=4)))
    assert next(iter(found.predict([image], top=4))) == expected
    line = call(capsys, "predict", "hf:me/animals", str(image), "--backbone", str(world.clip), "--json")
    assert json.loads(line.out)["classes"][0]["name"] == expected[0][0]


def test_what_a_stranger_shares_is_loaded_strictly(
    world: World, base_to_novel: FitResult, capsys: Capture, shared: Repositories
) -> None:
    call(capsys, "push", str(base_to_novel.folder), "me/animals")
    with pytest.raises(AdapterError, match="name it yourself with --backbone"):
        load("hf:me/animals")  # its backbone is a folder
    weights = shared["me/animals"]["adapter_model.safetensors"]
    shared["me/animals"]["adapter_model.safetensors"] = weights[:-1] + bytes([weights[-1] ^ 1])
    with pytest.raises(AdapterError, match="damaged or mixed up"):
        load("hf:me/animals", backbone=str(world.clip))
    del shared["me/animals"]["vlmadapt.json"]
    with pytest.raises(AdapterError, match="'hf:me/animals' is no shared run"):
        load("hf:me/animals", backbone=str(world.clip))


def test_refusals_of_the_hub_are_one_sentence(
    base_to_novel: FitResult, capsys: Capture, shared: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(VlmadaptError, match="'hf:me/nothing' cannot be downloaded"):
        load("hf:me/nothing")
    monkeypatch.setenv("HF_TOKEN", "hf_may_read")
    said = call(capsys, "push", str(base_to_novel.folder), "me/animals")
    assert said.code == 2 and len(said.err.splitlines()) == 1
    assert "'me/animals' cannot be written to: " in said.err and "Log in with `hf auth login`" in said.err
    assert "has the form OWNER/NAME" in call(capsys, "push", str(base_to_novel.folder), "animals").err


def test_wilson_intervals() -> None:
    assert wilson(8, 10) == pytest.approx((49.02, 94.33), abs=0.01)  # Brown, Cai & DasGupta, 2001
    assert wilson(0, 10) == pytest.approx((0.0, 27.75), abs=0.01)
    assert wilson(10, 10) == pytest.approx((72.25, 100.0), abs=0.01)


def test_the_calibration_is_shared(base_to_novel: FitResult, tmp_path: Path) -> None:
    """Without it a shared run would give other probabilities than the run."""
    copy = Run.open(Path(shutil.copytree(base_to_novel.folder, tmp_path / "run")))
    percentiles = [i / 100 for i in range(101)]
    copy.write_calibration({"temperature": 3.0, "images": 9, "probability": percentiles, "energy": percentiles})
    copy.write_result({name: value for name, value in base_to_novel.numbers.items() if name not in ("sha256", "files")})
    stage(Run.open(copy.folder), tmp_path / "shared", "me/animals")
    found = read_shared(tmp_path / "shared", "me/animals").calibration
    assert found is not None
    assert found.temperature == 3.0
