"""Settings files mean the same to `fit` and to `compare`."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.cli.command import call
from vlmadapt.compare.recipes import MethodSettings
from vlmadapt.compare.settings import CompareSettings, run_specs
from vlmadapt.errors import SettingError
from vlmadapt.runs.settings_files import method_name, read_settings, without_replaced_length

FIRST = "method: {name: coop, tokens: 3, words: a photo of a}\ntrain: {epochs: 7, lr: 0.5}\nshots: 2\n"
SECOND = "method: {name: coop, tokens: 5}\ntrain: {lr: 1e-3}\n"


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for name, content in (("first", FIRST), ("second", SECOND)):
        (tmp_path / f"{name}.yaml").write_text(content)
    return [str(tmp_path / f"{name}.yaml") for name in ("first", "second")]


def test_later_files_win_key_by_key(files: list[str]) -> None:
    assert read_settings(map(Path, files)) == {
        "method": {"name": "coop", "tokens": 5, "words": "a photo of a"},
        "train": {"epochs": 7, "lr": "1e-3"},
        "shots": 2,
    }
    assert read_settings(map(Path, reversed(files)))["method"]["tokens"] == 3


def test_fit_and_compare_give_the_same_two_files_the_same_meaning(
    capsys: pytest.CaptureFixture[str], files: list[str]
) -> None:
    printed = call(capsys, "fit", "--config", files[0], "--config", files[1], "--print_config")
    fitted = yaml.safe_load(printed.out)
    (compared,) = run_specs(CompareSettings(["coop"], seeds=[1], shots=[2], method_configs=files))
    options = compared.settings.options
    assert (options["tokens"], options["words"]) == (5, "a photo of a")
    assert {key: fitted["method"][key] for key in options} == options
    assert {key: fitted["train"][key] for key in ("epochs", "lr")} == {"epochs": 7, "lr": 1e-3}
    assert (compared.settings.recipe.epochs, compared.settings.recipe.lr) == (7, 1e-3)


def test_options_of_the_command_line_win_over_files_wherever_they_stand(
    capsys: pytest.CaptureFixture[str], files: list[str]
) -> None:
    given = ("fit", "--method.tokens", "9", "--config", files[0], "--template", "a {}", "--print_config")
    printed = yaml.safe_load(call(capsys, *given).out)
    assert printed["method"]["tokens"] == 9
    assert printed["shots"] == 2
    assert printed["templates"] == ["a {}"]


@pytest.mark.parametrize("given", [("--train.epochs", "3"), ("--train.epochs=3",), ("--config", "FILE")])
def test_epochs_given_later_replace_the_steps_of_a_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, given: tuple[str, ...]
) -> None:
    """Steps per shot take precedence over epochs of the same source, so without this the epochs would be ignored."""
    (tmp_path / "steps.yaml").write_text("method: {name: coop}\ntrain: {steps_per_shot: 300, lr: 0.5}\n")
    (tmp_path / "epochs.yaml").write_text("train: {epochs: 3}\n")
    later = [argument.replace("FILE", str(tmp_path / "epochs.yaml")) for argument in given]
    printed = call(capsys, "fit", "--config", str(tmp_path / "steps.yaml"), *later, "--print_config")
    train = yaml.safe_load(printed.out)["train"]
    assert (train["epochs"], train["steps_per_shot"], train["lr"]) == (3, 0, 0.5)


def test_steps_given_with_epochs_are_kept() -> None:
    settings = {"steps_per_shot": 300, "lr": 0.5}
    assert without_replaced_length(settings, ["epochs", "steps_per_shot"]) == settings
    assert without_replaced_length(settings, ["lr"]) == settings


def test_an_empty_section_changes_nothing(tmp_path: Path, files: list[str]) -> None:
    empty = tmp_path / "empty.yaml"
    empty.write_text("method:\ntrain:\n")
    assert read_settings([Path(files[0]), empty]) == read_settings([Path(files[0])])


def test_settings_remember_what_they_were_published_for(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("method: {name: coop, tokens: 3}\nprotocol: few-shot\n")
    found = MethodSettings.read({"own": file})
    assert (found.options, found.files, found.made_for) == ({"tokens": 3}, ("own",), {"protocol": "few-shot"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"a: [\n  b\n", "line 3 is not valid YAML"),
        (b"- a\n", "is not a settings file; write `name: value` on each line"),
        (b"method: coop\n", "write the method as `method: {name: coop}`"),
        (b"a: &x [1]\nb: [*x, *x]\n", "line 2 is not valid YAML"),
        (b"[" * 5000, "is not valid YAML"),
        (b"a: " + b"9" * 5000, "is not valid YAML"),
        (b"#" * 2**21, "is no regular file of at most 1 MiB"),
        (b"train: 3\n", "write `train: {NAME: VALUE}`"),
    ],
)
def test_what_is_no_settings_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(SettingError) as refused:
        read_settings([tmp_path / "own.yaml"])
    assert message in str(refused.value)
    assert "own.yaml" in str(refused.value)


def test_a_file_has_to_name_its_method_where_that_decides(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("method: {tokens: 3}\n")
    with pytest.raises(SettingError, match="does not say which method it is for"):
        method_name(tmp_path / "own.yaml")
    with pytest.raises(SettingError, match=r"none\.yaml' does not exist"):
        method_name(tmp_path / "none.yaml")


def test_a_device_does_not_make_a_command_wait(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'/dev/zero' is no regular file"):
        read_settings([Path("/dev/zero")])
