"""The command line starts at once: what is not needed is not imported."""

from __future__ import annotations

import json
import time

import pytest

from tests.cli.command import call, program
from vlmadapt.cli import method_options
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

NO_TORCH = """
import json, sys
from vlmadapt.cli.main import main
imported = {{}}
for command in {commands}:
    try:
        main(command)
    except SystemExit:
        pass
    for name in {{'torch', 'open_clip', 'accelerate', 'transformers', 'matplotlib', 'scipy'}} & sys.modules.keys():
        imported.setdefault(name, command)
print(json.dumps(imported))
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


WITHOUT_MODEL = [
    "fit --help",
    "fit --method mmrl++ --help",
    "fit --method no-such-method",
    "fit --method coop --method.tokns 3",
    "fit --method coop --method.position nowhere",
    "fit --method coop --train.flip 5",
    "fit --method coop --shots -1",
    "fit --method coop --data ./no-such-folder",
    "fit --method coop --data no-such-data",
    "fit --method coop --data pyproject.toml",
    "fit --method coop --data docs/images",
    "fit --method coop --protocol custom",
    "fit --method coop --protocol cross-dataset",
    "fit --method coop --out pyproject.toml/run",
    "fit --method coop --data openmoji --class_split no-such-file",
    "fit --config no-such-file.yaml",
    "fit --resume no-such-run",
    "evaluate --help",
    "evaluate no-such-run",
    "predict --help",
    "predict no-such-run image.png",
    "predict docs image.png",
    "compare --help",
    "compare --methods",
    "compare --methods clip,coopp",
    "compare --methods clip --seeds a",
    "compare --methods clip --jobs 0",
    "report no-such-run",
    "report --help",
    "data list",
    "data check no-such-data",
    "methods",
    "plugins list",
    "plugins info mmrl",
    "plugins info no-such-plugin",
    "new method Bad_Name",
]


@pytest.mark.processes
def test_what_needs_no_model_imports_no_torch() -> None:
    """All in one process; the first command that imports a heavy package is named."""
    said = program(python=("-c", NO_TORCH.format(commands=[command.split() for command in WITHOUT_MODEL])))
    assert said.code == 0, said.err
    assert json.loads(said.out.splitlines()[-1]) == {}


@pytest.mark.processes
def test_help_is_there_in_half_a_second() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        assert program("--help").code == 0
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5


@pytest.mark.processes
def test_the_plugin_api_imports_what_is_used() -> None:
    said = program(python=("-c", "import sys; from vlmadapt.plugin import DataSource; print('torch' in sys.modules)"))
    assert said.out == "False\n"


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
    assert "--train.lr LR learning rate after the warm-up. (type: float, default: 0.001)" in text
    assert "--shots SHOTS training images per class; 0 for all. (type: int, default: 16)" in text


@pytest.mark.parametrize("name", ["mmrl++", "clip-lora", "tip-adapter-f"])
def test_help_is_the_same_without_and_with_the_import(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from_source = call(capsys, "fit", "--method", name, "--help")
    monkeypatch.setattr(method_options, "read_source_options", lambda target: None)
    assert call(capsys, "fit", "--method", name, "--help") == from_source


def test_options_of_one_method_are_not_those_of_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--method.rank" not in call(capsys, "fit", "--method", "coop", "--help").out
    assert "--method.words" in call(capsys, "fit", "--method=coop", "--help").out
