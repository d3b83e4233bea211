"""Which package may import which: the contracts in `pyproject.toml`, checked as `lint-imports` does."""

from __future__ import annotations

import tomllib
from pathlib import Path

from importlinter import cli

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINTER = PROJECT["tool"]["importlinter"]


def plugin_packages() -> set[str]:
    """Packages that hold a plugin, by the entry points; the library registers its own launchers in the same way."""
    groups = PROJECT["project"]["entry-points"]
    targets = {target.partition(":")[0].partition(".")[0] for group in groups.values() for target in group.values()}
    return targets - {"vlmadapt"}


def contract(name: str) -> dict[str, list[str]]:
    (found,) = [c for c in LINTER["contracts"] if c["name"] == name]
    return found


def test_all_contracts_are_kept() -> None:
    assert cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == 0


def test_every_plugin_package_is_under_contract() -> None:
    packages = plugin_packages()
    assert packages
    assert packages <= set(LINTER["root_packages"])
    assert packages <= set(contract("the library knows no plugin")["forbidden_modules"])
    assert packages <= set(contract("plugins use the public plugin API alone")["source_modules"])


def test_plugins_may_import_the_plugin_api_alone() -> None:
    rule = contract("plugins use the public plugin API alone")
    inside = (ROOT / "vlmadapt").iterdir()
    parts = {path.stem for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()}
    forbidden = {name.removeprefix("vlmadapt.") for name in rule["forbidden_modules"]}
    assert parts - forbidden <= {"plugin", "__init__", "__main__", "testing"}
