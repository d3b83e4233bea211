"""Every module can be imported by itself, and no two import each other, not even for their types."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import grimp
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "vlmadapt",
    *sorted(path.name for path in (ROOT / "plugins").iterdir() if path.name.startswith("vlmadapt_")),
)


def modules(package: str) -> list[str]:
    """All modules of a package but the one that runs it."""
    folder = ROOT if package == "vlmadapt" else ROOT / "plugins"
    found = [".".join(path.relative_to(folder).with_suffix("").parts) for path in (folder / package).rglob("*.py")]
    return sorted(name.removesuffix(".__init__") for name in found if not name.endswith("__main__"))


# -- alone ------------------------------------------------------------------------------------------------------------


def forget_our_modules() -> None:
    """Let the next import start without any module of ours."""
    for loaded in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[loaded]


def import_alone(names: Sequence[str]) -> dict[str, str]:
    """Import each module with no other of ours before it; gives the errors.

    This happens in a fork of this process: torch is imported already, and classes here stay what they are.
    """
    with TemporaryFile("w+") as said:
        child = os.fork()
        if not child:
            code = 1
            try:
                errors = {}
                for name in names:
                    forget_our_modules()
                    try:
                        importlib.import_module(name)
                    except BaseException:
                        errors[name] = traceback.format_exc()
                json.dump(errors, said)
                said.flush()
                code = 0
            finally:
                os._exit(code)  # without the parent's own exit handlers
        _, status = os.waitpid(child, 0)
        assert status == 0
        said.seek(0)
        return dict(json.load(said))


@pytest.fixture(scope="module")
def others() -> None:
    """What our modules import of others, imported once in this process."""
    import accelerate
    import jsonargparse
    import open_clip
    import rich.console
    import rich.table
    import torch
    import yaml

    assert all((accelerate, jsonargparse, open_clip, rich.console, rich.table, torch, yaml))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_every_module_can_be_imported_alone(others: None) -> None:
    names = [name for package in PACKAGES for name in modules(package)]
    assert len(names) > 150
    failed = import_alone(["vlmadapt.missing", *names])
    assert "ModuleNotFoundError" in failed.pop("vlmadapt.missing"), "a failure would be noticed"
    assert not failed, "\n\n".join(failed.values())


@pytest.mark.processes
def test_a_fresh_process_imports_the_block_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import vlmadapt.core.block"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# -- circles ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """The modules that each module imports, those for types included."""
    built = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=False, cache_dir=None)
    return {name: built.find_modules_directly_imported_by(name) for name in built.modules}


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """Groups of modules that can reach each other (Tarjan's strongly connected components of more than one)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []

    def visit(name: str) -> Iterator[list[str]]:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                yield from visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1 or name in graph[name]:
                yield sorted(group)

    for name in sorted(graph):
        if name not in index:
            yield from visit(name)


def test_no_modules_import_each_other(graph: dict[str, set[str]]) -> None:
    assert len(graph) > 150
    assert list(circles(graph)) == []


def test_a_circle_is_found() -> None:
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()})) == [["b", "c"]]
    assert list(circles({"a": {"a"}})) == [["a"]]
    assert list(circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})) == []
