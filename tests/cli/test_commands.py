"""What `fit` does and prints, its options and settings files, and warnings."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import yaml

from tests.cli.command import ROOT, call, program
from tests.data.pictures import class_folder
from tests.world import OPTIONS, World, outcome
from vlmadapt import FitResult
from vlmadapt.cli.main import main
from vlmadapt.cli.tables.runs import fit_table
from vlmadapt.errors import VlmadaptWarning
from vlmadapt.runs.run import Run

Capture = pytest.CaptureFixture[str]


# -- fit --------------------------------------------------------------------------------------------------------------


def test_fit_does_what_its_options_say(capsys: Capture, world: World, base_to_novel: FitResult, tmp_path: Path) -> None:
    given = world.arguments(tmp_path / "run", "mmrl", "--protocol", "base-to-novel")
    assert call(capsys, *given).code == 0
    assert outcome(tmp_path / "run") == outcome(base_to_novel.folder)


def test_fit_prints_whether_it_worked_what_it_cost_and_where_the_run_is(
    capsys: Capture, world: World, tmp_path: Path
) -> None:
    said = call(capsys, *world.arguments(tmp_path / "run", "mmrl", "--protocol", "base-to-novel"))
    numbers = Run.open(tmp_path / "run").result()
    assert numbers is not None
    assert all(heading in said.out for heading in ("classes", "images", "chance", "zero-shot", "mmrl", "gain"))
    for title, name in (("base (seen)", "base"), ("novel (unseen)", "novel"), ("harmonic mean", "harmonic_mean")):
        (row,) = [line for line in said.out.splitlines() if title in line]
        percents = [float(value) for value in re.findall(r"([\d.]+) %", row)]
        assert percents == [round(numbers[kind][name], 2) for kind in ("chance", "zero_shot", "accuracy")]
    assert f"{numbers['trainable_parameters']:,} trainable parameters" in said.out
    assert re.search(r"\d+ ms per step, peak memory \d\.\d\d GiB", said.out)
    assert said.out.endswith(f"run folder: {tmp_path / 'run'}\n")


def test_fit_names_the_best_and_the_worst_classes(capsys: Capture) -> None:
    shares = {"a": 1.0, "b": 0.9, "c": 0.8, "d": 0.7, "e": 0.5, "f": 0.3, "g": 0.1, "h": None}
    rows: dict[str, dict[str, int]] = {name: {} for name in shares} | {"g": {"g": 1, "a": 6, "b": 3}}
    group = {"name": "all", "total": 70, "classes": shares, "confusion": rows}
    numbers = {"method": "coop", "data": "x", "protocol": "few-shot", "shots": 1, "seed": 1, "accuracy": {"all": 60.0},
               "groups": [group], "trainable_parameters": 1, "seconds_per_step": None,
               "peak_memory_bytes": 2**30}  # fmt: skip
    fit_table(numbers, Path("run"))
    said = capsys.readouterr().out
    assert "best classes: a 100 %, b 90 %, c 80 %\n" in said
    assert "worst classes: g 10 % (6 of 10 taken for a), f 30 %, e 50 %\n" in said
    assert "\n1 trainable parameter, peak memory 1.00 GiB\n" in said
    assert "zero-shot" not in said


def test_remarks_are_on_standard_error_and_there_is_no_bar_where_nobody_looks(
    capsys: Capture, world: World, tmp_path: Path
) -> None:
    said = call(capsys, *world.arguments(tmp_path / "run"))
    assert said.err == (
        f"mmrl on {world.clip}: 6,432 trainable parameters, 12 images of 4 classes, 3 epochs of batches of 4\n"
    )
    assert "12 images" not in said.out


def test_own_photographs_on_the_default_backbone_are_told_of_another(
    capsys: Capture, world: World, tmp_path: Path
) -> None:
    given = ("fit", "--method", "clip", "--shots", "1", "--out")
    said = call(capsys, *given, str(tmp_path / "own"), "--data", str(world.pictures))
    assert said.err.count("the default backbone, tiny, has only seen drawings") == 1
    assert "--backbone ViT-B-16:openai" in said.err
    said = call(capsys, *given, str(tmp_path / "other"), "--data", str(world.pictures), "--backbone", str(world.clip))
    assert "drawings" not in said.err


@pytest.mark.parametrize(("method", "said"), [("mmrl", True), ("clip", False)])
def test_epochs_that_are_all_warm_up_are_named_if_something_is_trained(
    capsys: Capture, world: World, tmp_path: Path, method: str, said: bool
) -> None:
    given = world.arguments(tmp_path / "run", method, "--train.epochs=1", "--train.warmup_epochs=1")
    assert ("all epochs are warm-up" in call(capsys, *given).err) is said


@pytest.mark.slow
@pytest.mark.processes
def test_a_program_prints_no_control_characters_into_a_file(world: World, tmp_path: Path) -> None:
    said = program(*world.arguments(tmp_path / "run", "clip"))
    assert said.code == 0
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", said.out + said.err)
    assert not re.search("[━╸╺]{4,}|img/s", said.err)
    assert len(said.err.splitlines()) == 1


def test_names_that_look_like_markup_are_printed_as_they_are(capsys: Capture, world: World, tmp_path: Path) -> None:
    folder = tmp_path / "[bold]my[/red] :smile: pictures"
    for name in ("[red]", ":cat:"):
        class_folder(folder / name, 4)
    said = call(capsys, *world.arguments(tmp_path / "[run]", "clip", "--data", str(folder)))
    assert said.code == 0
    assert "[run]" in said.out
    assert "fewer than 3 training images: :cat: (2), [red] (2)" in said.err
    image = str(folder / "[red]" / "00.png")
    said = call(capsys, "predict", str(tmp_path / "[run]"), image)
    assert "[red]" in said.out
    assert ":cat:" in said.out


def test_the_config_of_a_run_starts_the_same_run_again(
    capsys: Capture, base_to_novel: FitResult, tmp_path: Path
) -> None:
    config = str(base_to_novel.folder / "config.yaml")
    assert call(capsys, "fit", "--config", config, "--out", str(tmp_path / "again")).code == 0
    assert outcome(tmp_path / "again") == outcome(base_to_novel.folder)


def test_options_win_over_files_and_later_files_over_earlier_ones(
    capsys: Capture, world: World, tmp_path: Path
) -> None:
    (tmp_path / "a.yaml").write_text("method: {name: mmrl, tokens: 3, width: 8}\nshots: 1\nseed: 5\n")
    (tmp_path / "b.yaml").write_text("method: {width: 12}\nseed: 6\ntrain: {epochs: 1}\n")
    given = ["--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml"), "--seed", "7"]
    given += ["--method.layers", "[3]", "--data", str(world.pictures), "--backbone", str(world.clip)]
    said = call(capsys, "fit", *given, "--out", str(tmp_path / "run"))
    assert said.code == 0, said.err
    settings = Run.open(tmp_path / "run").settings()
    assert {name: settings.options[name] for name in ("tokens", "width", "layers")} == {
        "tokens": 3,
        "width": 12,
        "layers": [3],
    }
    assert (settings.shots, settings.seed, settings.recipe.epochs) == (1, 7, 1)


def test_the_published_recipe_of_the_method_is_the_default(capsys: Capture) -> None:
    printed = yaml.safe_load(call(capsys, "fit", "--method", "mmrl", "--print_config").out)
    assert printed["train"]["optimizer"] == "adamw"
    assert printed["train"]["batch_size"] == 4
    assert printed["method"]["alpha"] == 0.7
    printed = yaml.safe_load(call(capsys, "fit", "--method", "coop", "--train.lr", "0.5", "--print_config").out)
    assert (printed["train"]["optimizer"], printed["train"]["lr"]) == ("sgd", 0.5)


def test_what_print_config_prints_is_a_config(capsys: Capture, world: World, tmp_path: Path) -> None:
    printed = call(capsys, *world.arguments(tmp_path / "run"), "--print_config")
    assert printed.code == 0
    (tmp_path / "config.yaml").write_text(printed.out)
    assert call(capsys, "fit", "--config", str(tmp_path / "config.yaml")).code == 0
    assert Run.open(tmp_path / "run").settings().options["width"] == OPTIONS["mmrl"]["width"]


def test_templates_are_given_one_by_one(capsys: Capture) -> None:
    said = call(capsys, "fit", "--method=clip", "--template", "{} texture.", "--template=a: {}", "--print_config")
    assert yaml.safe_load(said.out)["templates"] == ["{} texture.", "a: {}"]


def test_a_yes_or_no_option_needs_no_value(capsys: Capture) -> None:
    given = ("fit", "--method", "clip", "--recursive", "--skip_corrupt", "--compile", "false", "--print_config")
    printed = yaml.safe_load(call(capsys, *given).out)
    assert (printed["recursive"], printed["skip_corrupt"], printed["compile"]) == (True, True, False)


def test_variables_of_the_environment_are_no_options(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SHOTS", "VLMADAPT_SHOTS", "VLMADAPT_FIT_SHOTS", "JSONARGPARSE_SHOTS"):
        monkeypatch.setenv(name, "3")
    assert yaml.safe_load(call(capsys, "fit", "--method", "mmrl", "--print_config").out)["shots"] == 16


@pytest.mark.slow
@pytest.mark.processes
def test_control_c_stops_a_program_and_tells_how_to_go_on(world: World, tmp_path: Path) -> None:
    """As a terminal does it: the signal goes to the program and to the processes that load its images."""
    run = tmp_path / "run"
    given = world.arguments(run, "mmrl", "--train.epochs", "100000", "--workers", "2")
    command = [sys.executable, "-m", "vlmadapt", *given]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        limit = time.monotonic() + 100
        while not (run / "state.safetensors").exists() and process.poll() is None and time.monotonic() < limit:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    stopped = err.splitlines()[-1]
    assert re.match(r"vlmadapt: stopped in epoch \d+ after step \d of 3; everything is saved", stopped), err
    assert stopped.endswith(f"Go on with: vlmadapt fit --resume {run}")
    assert "Traceback" not in err


def test_resume_uses_the_settings_of_the_run(capsys: Capture, world: World, base_to_novel: FitResult) -> None:
    before = outcome(base_to_novel.folder)
    said = call(capsys, "fit", "--resume", str(base_to_novel.folder))
    assert said.code == 0
    assert said.out.endswith(f"run folder: {base_to_novel.folder}\n")
    assert outcome(base_to_novel.folder) == before


def test_a_warning_is_one_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(arguments: list[str]) -> None:
        warnings.warn("the tags differ.", VlmadaptWarning, stacklevel=1)

    monkeypatch.setattr("vlmadapt.cli.methods.run", run)
    before = warnings.formatwarning
    with warnings.catch_warnings(action="always"):
        monkeypatch.setattr(warnings, "showwarning", show_on_stderr)
        main(["methods"])
    assert capfd.readouterr().err == "vlmadapt: the tags differ.\n"
    assert warnings.formatwarning is before


def show_on_stderr(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
    """Python's own way, which pytest replaces."""
    sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))
