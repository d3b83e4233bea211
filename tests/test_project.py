"""Files of the project agree with each other: version, papers, workflows."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from vlmadapt.registry.source_info import read_source_info

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
METHODS: dict[str, str] = PROJECT["entry-points"]["vlmadapt.methods"]


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    assert read_yaml(ROOT / "CITATION.cff")["version"] == PROJECT["version"]
    assert re.findall(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == PROJECT["version"]


@pytest.mark.parametrize("method", METHODS)
def test_the_paper_of_a_method_is_cited(method: str) -> None:
    info = read_source_info(METHODS[method])
    assert info is not None
    titles = [reference["title"] for reference in read_yaml(ROOT / "CITATION.cff")["references"]]
    assert any(title in info.paper for title in titles), info.paper


@pytest.mark.parametrize("method", METHODS)
def test_the_readme_lists_each_method(method: str) -> None:
    assert f"| `{method}` |" in (ROOT / "README.md").read_text()


def test_workflows_call_scripts_that_exist() -> None:
    called = set()
    for path in (ROOT / ".github/workflows").glob("*.yml"):
        steps = [step for job in read_yaml(path)["jobs"].values() for step in job["steps"]]
        called |= {step["run"] for step in steps if step.get("run", "").startswith(".ci/")}
    assert {".ci/run", ".ci/wheel"} == called
    assert all(os.access(ROOT / script, os.X_OK) for script in called)


def test_issue_forms_ask_for_versions() -> None:
    for name in ("bug", "numbers"):
        form = read_yaml(ROOT / f".github/ISSUE_TEMPLATE/{name}.yml")
        assert "vlmadapt --version --json" in [field["attributes"]["label"] for field in form["body"]]


REQUIRED = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["transformers"]]


def test_the_oldest_versions_are_those_of_the_requirements() -> None:
    lowest = dict(re.findall(r'"?([A-Za-z_-]+)(?:\[\w+\])?>=([\d.]+)', "\n".join(REQUIRED)))
    oldest = dict(re.findall(r"^([A-Za-z_]+)==([\d.]+)\.\*", (ROOT / ".ci/oldest.txt").read_text(), re.M))
    assert oldest == {name: lowest[name] for name in oldest}
    assert {"torch", "torchvision", "open_clip_torch"} <= oldest.keys()
