"""A state is resumed by the run it belongs to, complete and unchanged, or refused in a sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests import small
from tests.cli.command import call
from tests.parity import tiny_clip
from tests.training.test_resume import ANYTHING, after_step, ask_to_stop
from tests.world import World, metrics, outcome
from vlmadapt import VlmadaptError, fit
from vlmadapt.errors import SettingError
from vlmadapt.runs.interrupt import Interrupted

Change = Callable[[dict[str, Any], dict[str, torch.Tensor]], object]


@pytest.fixture(scope="module")
def stopped(world: World) -> Path:
    """A run that was stopped in its second epoch."""
    with after_step(4, ask_to_stop), pytest.raises(Interrupted):
        world.fit(world.root / "stopped", "coop")
    return world.root / "stopped"


@pytest.fixture
def run(stopped: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def change_state(run: Path, change: Change) -> None:
    path = run / "state.safetensors"
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["state"])
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, {"state": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h["progress"].update(epoch=-5), "is damaged: its checksum is another one"),
        (lambda h, t: h["progress"].update(step=0), "is damaged: its checksum is another one"),
        (lambda h, t: h["identity"].update(seed=2), "is damaged: its checksum is another one"),
        (lambda h, t: t["method.context"].add_(1), "is damaged: its checksum is another one"),
        (lambda h, t: t["random.cpu"].add_(1), "is damaged: its checksum is another one"),
        (lambda h, t: t.pop("random.cpu"), "is damaged: its checksum is another one"),
        (lambda h, t: h["progress"].update(epoch="one"), "'progress.epoch' is no whole number"),
        (lambda h, t: h["progress"].pop("history"), "'progress.history' is missing"),
        (lambda h, t: h.update(loss_scale=[]), "'loss_scale' is no JSON object"),
        (lambda h, t: h.pop("format"), "has format 1, this version resumes format 2; start the run again in another f"),
        (lambda h, t: h.clear(), "has format 1, this version resumes format 2"),
    ],
)
def test_a_changed_state_is_refused(run: Path, change: Change, message: str) -> None:
    change_state(run, change)
    with pytest.raises(VlmadaptError) as refused:
        fit(ANYTHING, resume=run)
    assert message in str(refused.value) and "state.safetensors'" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_flipped_bit_of_a_tensor_is_noticed(run: Path) -> None:
    path = run / "state.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VlmadaptError, match="its checksum is another one"):
        fit(ANYTHING, resume=run)


def test_the_state_of_another_method_is_refused(world: World, run: Path, tmp_path: Path) -> None:
    """CoOp and ProGrad train tensors of the same names and shapes."""
    settings = replace(world.settings(tmp_path / "other", "coop", options={"start": "random"}), method="prograd")
    with after_step(4, ask_to_stop), pytest.raises(Interrupted):
        fit(settings)
    shutil.copy(tmp_path / "other" / "state.safetensors", run / "state.safetensors")
    with pytest.raises(VlmadaptError, match=r'is of another run: method.name \("prograd" instead of "coop"\)'):
        fit(ANYTHING, resume=run)


@pytest.mark.parametrize(
    ("changes", "what"), [({"seed": 2}, "seed (2 instead of 1)"), ({"train": {"lr": 0.1}}, "train.lr")]
)
def test_the_state_of_other_settings_is_refused(
    world: World, run: Path, tmp_path: Path, changes: dict[str, Any], what: str
) -> None:
    with after_step(4, ask_to_stop), pytest.raises(Interrupted):
        world.fit(tmp_path / "other", "coop", **changes)
    shutil.copy(tmp_path / "other" / "state.safetensors", run / "state.safetensors")
    with pytest.raises(VlmadaptError) as refused:
        fit(ANYTHING, resume=run)
    assert what in str(refused.value)


def test_a_folder_that_is_deleted_in_training_ends_it_and_is_not_made_again(world: World, tmp_path: Path) -> None:
    def delete() -> None:
        shutil.rmtree(tmp_path / "run")

    with after_step(4, delete), pytest.raises(VlmadaptError, match="run' was deleted, moved or replaced while it was"):
        world.fit(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_metrics_are_those_of_the_state_though_the_last_line_was_lost(world: World, run: Path, tmp_path: Path) -> None:
    (run / "metrics.jsonl").unlink()
    fit(ANYTHING, resume=str(run))
    world.fit(tmp_path / "whole", "coop")
    assert outcome(run) == outcome(tmp_path / "whole")


def test_a_run_that_ended_before_its_first_state_can_be_started_again(world: World, tmp_path: Path) -> None:
    def power_failure() -> None:
        raise SystemExit

    with after_step(1, power_failure), pytest.raises(SystemExit):
        world.fit(tmp_path / "run", seed=2)
    (tmp_path / "run" / ".state.safetensors.abc.tmp").touch()
    world.fit(tmp_path / "run")
    world.fit(tmp_path / "whole")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert not list((tmp_path / "run").glob(".*"))


# -- settings that may change -----------------------------------------------------------------------------------------

CONSTANT = {"schedule": "constant", "warmup_epochs": 0}


def test_more_epochs_continue_a_finished_run_to_the_same_bits(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.fit(tmp_path / "run", "coop", train=CONSTANT)
    said = call(capsys, "fit", "--resume", str(tmp_path / "run"), "--train.epochs", "5", "--workers", "1")
    assert said.code == 0, said
    world.fit(tmp_path / "long", "coop", train={**CONSTANT, "epochs": 5})
    assert len(metrics(tmp_path / "run")) == 5
    assert outcome(tmp_path / "run") == outcome(tmp_path / "long")


@pytest.mark.parametrize(
    ("method", "train", "epochs"), [("coop", {}, 5), ("coop", CONSTANT, 2), ("promptsrc", CONSTANT, 5)]
)
def test_epochs_that_would_have_trained_otherwise_are_refused(
    world: World, tmp_path: Path, method: str, train: dict[str, Any], epochs: int
) -> None:
    with after_step(1, ask_to_stop), pytest.raises(Interrupted):
        world.fit(tmp_path / "run", method, train=train)
    with pytest.raises(SettingError, match=rf"--train.epochs cannot change from 3 to {epochs} in '.*run'"):
        fit(ANYTHING, resume=tmp_path / "run", changes={"train": {"epochs": epochs}})


@pytest.mark.parametrize("option", [["--shots", "4"], ["--method", "mmrl"], ["--train.lr", "0.1"], ["--seed", "7"]])
def test_settings_that_decide_the_numbers_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    told = call(capsys, "fit", "--resume", str(run), "--workers", "1", *option).mistake()
    assert told == f"--resume continues '{run}' with its own settings; leave {option[0]} out."


def test_other_data_at_a_new_place_are_refused_and_the_same_are_used(
    world: World, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(world.pictures, tmp_path / "copy")
    shutil.copytree(world.pictures, tmp_path / "less")
    shutil.rmtree(tmp_path / "less" / "red_fox")
    told = call(capsys, "fit", "--resume", str(run), "--data", str(tmp_path / "less"))
    assert told.code == 2 and f"the data of '{run}' have changed" in told.err
    said = call(capsys, "fit", "--resume", str(run), "--data", str(tmp_path / "copy"))
    assert said.code == 0, said
    assert f"data: {tmp_path / 'copy'}\n" in (run / "config.yaml").read_text()


@pytest.mark.parametrize("method", ["clip", "coop"])
def test_another_backbone_is_refused_and_the_run_stays_as_it_is(world: World, tmp_path: Path, method: str) -> None:
    """A method without training has no state to compare with."""
    tiny_clip.write(tmp_path / "other", {**small.SETTINGS, "seed": 8})
    world.fit(tmp_path / "run", method)
    before = outcome(tmp_path / "run") if method == "coop" else (tmp_path / "run" / "result.json").read_bytes()
    config = (tmp_path / "run" / "config.yaml").read_bytes()
    with pytest.raises(VlmadaptError, match=r"has another backbone than '.*other': weights \("):
        fit(ANYTHING, resume=tmp_path / "run", changes={"backbone": str(tmp_path / "other")})
    assert (tmp_path / "run" / "config.yaml").read_bytes() == config
    after = outcome(tmp_path / "run") if method == "coop" else (tmp_path / "run" / "result.json").read_bytes()
    assert after == before


def test_another_backbone_is_refused_before_the_end_too(world: World, run: Path, tmp_path: Path) -> None:
    tiny_clip.write(tmp_path / "other", {**small.SETTINGS, "seed": 8})
    config = (run / "config.yaml").read_bytes()
    with pytest.raises(VlmadaptError, match=r"is of another run: backbone.sha256 \("):
        fit(ANYTHING, resume=run, changes={"backbone": str(tmp_path / "other")})
    assert (run / "config.yaml").read_bytes() == config
