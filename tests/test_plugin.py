"""The plugin API: every public name is found, and imported only when it is used."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

from vlmadapt import plugin


def type_checkers_imports() -> dict[str, str]:
    """Module of each name that type checkers see."""
    tree = ast.parse(Path(plugin.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        name.name: str(node.module) for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names
    }


def test_type_checkers_and_python_see_the_same_names() -> None:
    assert type_checkers_imports() == plugin._WHERE
    assert set(plugin.__all__) == set(plugin._WHERE)


def test_every_name_is_the_object_of_its_module() -> None:
    for name in plugin.__all__:
        assert getattr(plugin, name) is getattr(import_module(plugin._WHERE[name]), name)


def test_an_old_name_gives_the_new_object_with_a_warning() -> None:
    for old, new in plugin._RENAMED.items():
        with pytest.warns(
            DeprecationWarning, match=f"vlmadapt.plugin.{old} is deprecated; write vlmadapt.plugin.{new}"
        ):
            assert getattr(plugin, old) is getattr(plugin, new)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Methd'"):
        _ = plugin.Methd  # type: ignore[attr-defined]
