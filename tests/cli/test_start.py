"""The command line starts at once: what is not needed is not imported."""

from __future__ import annotations

import json
import time

import pytest

from tests.cli.command import call, program
from vlmadapt.cli.main import COMMANDS

IMPORTED = """
import json, sys
from vlmadapt.cli.main import main
try:
    main({arguments})
except SystemExit:
    pass
print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})), file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    """Top-level packages that a command has imported when it ends."""
    said = program(python=("-c", IMPORTED.format(arguments=list(arguments))))
    assert said.code == 0, said.err
    return set(json.loads(said.err.splitlines()[-1]))


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["--version"], ["fti"]], ids=" ".join)
def test_help_imports_neither_torch_nor_the_parser(arguments: list[str]) -> None:
    assert not imported(*arguments) & {"torch", "jsonargparse", "numpy", "rich", "open_clip", "accelerate", "yaml"}


@pytest.mark.processes
@pytest.mark.parametrize("command", ["fit", "evaluate", "predict", "methods"])
def test_help_of_a_command_does_not_import_torch(command: str) -> None:
    assert not imported(command, "--help") & {"torch", "open_clip", "accelerate"}


@pytest.mark.processes
def test_help_is_there_in_half_a_second() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        assert program("--help").code == 0
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.processes
def test_importing_the_package_imports_nothing_heavy() -> None:
    said = program(python=("-c", "import vlmadapt, sys; print('torch' in sys.modules, vlmadapt.FitSettings.__name__)"))
    assert said.out == "False FitSettings\n"


def test_help_lists_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "--help")
    assert said.code == 0
    assert all(f"  {name} " in said.out for name in COMMANDS)
    assert call(capsys) == said


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: str) -> None:
    said = call(capsys, command, "--help")
    assert said.code == 0
    assert f"vlmadapt {command}" in said.out
    assert not said.err


def test_help_of_fit_documents_the_options_of_a_method(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(call(capsys, "fit", "--method", "mmrl++", "--help").out.split())
    assert "--method.rank RANK rank of each layer's own part of the aligners. (type: int, default: 4)" in text
    assert "--train.lr LR learning rate behind the warm-up. (type: float, default: 0.001)" in text
    assert "--shots SHOTS training images per class; 0 for all. (type: int, default: 16)" in text


def test_options_of_one_method_are_not_those_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--method.rank" not in call(capsys, "fit", "--method", "coop", "--help").out
    assert "--method.words" in call(capsys, "fit", "--method=coop", "--help").out
