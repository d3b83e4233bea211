"""What a plugin's source says of it, read without importing anything.

Listing plugins stays instant whatever they import, a broken one cannot do harm, and since it is the code itself that is
read, what is listed cannot drift from what is run.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import Any

from vlmadapt.errors import PluginError

API = "vlmadapt.plugin"
HOOKS = ("prompt", "teacher", "inject", "adapt", "head")
OVERRIDES = ("losses", "route", "prepare", "training_step", "epoch_start", "epoch_end", "finish")
TOWERS = {"TEXT": "text", "IMAGE": "image"}
# What comes with vlmadapt and therefore is no need of its own.
PROVIDED = frozenset({"vlmadapt", "torch", "torchvision", "open_clip", "numpy", "PIL", "safetensors", "yaml"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


@dataclass(frozen=True)
class Facts:
    """The static card of a plugin.

    Attributes:
        file: where its source is.
        summary: first line of its docstring.
        paper: where it was published.
        touches: towers it works inside.
        hooks: hook points it uses: what it declares, then what it overrides.
        needs: images it looks at before or behind training, and libraries that do not come with vlmadapt.
        limitations: checks of the conformance kit that it cannot pass, and why.
        api_version: of the plugin API it was written for, None where it does not say.
    """

    file: str
    summary: str = ""
    paper: str = ""
    touches: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    limitations: dict[str, str] = field(default_factory=dict)
    api_version: int | None = None


def read_facts(target: str) -> Facts | None:
    """Read the source of an entry point.

    Args:
        target: `package.module:name`.

    Returns:
        Its facts, or None where there is no source to read (a compiled module, a name made at run time).

    Raises:
        PluginError: the module or the name does not exist, or the source is not valid Python.
    """
    module_name, _, name = target.partition(":")
    module = _Module.find(module_name)
    if module is None:
        return None
    found = module.definition(name)
    if found is None:
        if name in module.made or "__getattr__" in module.definitions:
            return None
        raise PluginError(f"'{module_name}' does not define '{name}'")
    owner, node = found
    summary = (ast.get_docstring(node) or "").partition("\n")[0]
    if not isinstance(node, ast.ClassDef):
        return Facts(str(owner.path), summary)
    return _class_facts(owner, node, summary)


def _class_facts(owner: _Module, node: ast.ClassDef, summary: str) -> Facts:
    lineage = _lineage(owner, node)
    methods = _methods(lineage)
    reached = _reached(methods)
    touches = _attribute(lineage, "touches")
    return Facts(
        file=str(owner.path),
        summary=summary,
        paper=_literal(_attribute(lineage, "paper"), ""),
        touches=tuple(TOWERS.values()) if touches is None else _towers(touches),
        hooks=(
            *(hook for hook in HOOKS if any(_calls_hook(m, f, hook) for m, f in reached)),
            *(name for name in OVERRIDES if name in methods),
        ),
        needs=tuple(_needs(lineage, methods, reached)),
        limitations=_limitations(owner, lineage),
        api_version=_literal(_attribute(lineage, "api_version"), None),
    )


class _Module:
    """A parsed module."""

    def __init__(self, name: str, path: Path):
        self.name = name
        self.path = path
        try:
            self.tree = ast.parse(path.read_bytes(), filename=str(path))
        except (SyntaxError, ValueError) as error:
            line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
            message = error.msg if isinstance(error, SyntaxError) else error
            raise PluginError(f"SyntaxError: {message} ({path.name}{line})") from error
        top_level = self.tree.body
        self.definitions = {n.name: n for n in top_level if isinstance(n, Definition)}
        assigned = [n for n in top_level if isinstance(n, ast.Assign | ast.AnnAssign)]
        self.imports = dict(self._imports())
        # Names that only running the module gives a meaning.
        self.made = {n.id for a in assigned for n in ast.walk(a) if isinstance(n, ast.Name)} | self.imports.keys()

    @classmethod
    def find(cls, name: str) -> _Module | None:
        """The module of a dotted name, None where it has no source.

        Raises:
            PluginError: there is no such module.
        """
        spec = _spec(name)
        if spec is None:
            raise PluginError(f"ModuleNotFoundError: there is no module '{name}'")
        path = Path(spec.origin or "")
        return _parsed(name, path, path.stat().st_mtime_ns) if path.suffix == ".py" and path.is_file() else None

    def _imports(self) -> Iterator[tuple[str, str]]:
        """Local name -> what it stands for."""
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
            elif isinstance(node, ast.ImportFrom):
                relative = "." * node.level + (node.module or "")
                source = resolve_name(relative, package) if node.level else relative
                for alias in node.names:
                    yield alias.asname or alias.name, f"{source}.{alias.name}"

    def definition(self, name: str) -> tuple[_Module, Definition] | None:
        """A class or function of this module, or of the module of the same package it is imported from."""
        if name in self.definitions:
            return self, self.definitions[name]
        source, _, imported = self.imports.get(name, "").rpartition(".")
        if source.partition(".")[0] != self.name.partition(".")[0] or source == self.name:
            return None
        module = _Module.find(source)
        return module.definition(imported) if module else None

    def dotted(self, node: ast.expr) -> str:
        """What a name or an attribute stands for, '' where that is neither."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (inner := self.dotted(node.value)):
            return f"{inner}.{node.attr}"
        return ""


@lru_cache(maxsize=256)
def _parsed(name: str, path: Path, changed: int) -> _Module:
    return _Module(name, path)


def _spec(name: str) -> ModuleSpec | None:
    """Where a module is, without importing the packages it lies in."""
    top, *parts = name.split(".")
    try:
        spec = find_spec(top)
    except ValueError:
        return None
    full = top
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        full = f"{full}.{part}"
        spec = PathFinder.find_spec(full, spec.submodule_search_locations)
    return spec


def _lineage(module: _Module, node: ast.ClassDef) -> list[tuple[_Module, ast.ClassDef]]:
    """A class and its bases within the same package, nearest first."""
    found = [(module, node)]
    for owner, child in found:  # grows while it is walked
        for base in child.bases:
            target = owner.definition(base.id) if isinstance(base, ast.Name) else None
            if target and isinstance(target[1], ast.ClassDef) and all(target[1] is not known for _, known in found):
                found.append((target[0], target[1]))
    return found


def _attribute(lineage: list[tuple[_Module, ast.ClassDef]], name: str) -> ast.expr | None:
    """The value that a class attribute is given, by the nearest class that does so."""
    for _, node in lineage:
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                named, value = statement.target.id, statement.value
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                named, value = statement.targets[0].id, statement.value
            else:
                continue
            if named == name and value is not None:
                return value
    return None


def _literal(node: ast.expr | None, default: Any) -> Any:
    try:
        return default if node is None else ast.literal_eval(node)
    except ValueError:
        return default


def _limitations(owner: _Module, lineage: list[tuple[_Module, ast.ClassDef]]) -> dict[str, str]:
    """The written dictionary; `**Base.limitations` in it stands for what a base class has."""
    node = _attribute(lineage, "limitations")
    if not isinstance(node, ast.Dict):
        return {}
    found: dict[str, str] = {}
    for key, value in zip(node.keys, node.values, strict=True):
        if key is not None:
            found[_literal(key, "?")] = _literal(value, "?")
        elif isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
            base = owner.definition(value.value.id)
            if base and isinstance(base[1], ast.ClassDef):
                found |= _limitations(base[0], _lineage(base[0], base[1]))
    return found


def _towers(node: ast.expr) -> tuple[str, ...]:
    names = [n.id if isinstance(n, ast.Name) else getattr(n, "attr", "") for n in ast.walk(node)]
    return tuple(TOWERS[name] for name in names if name in TOWERS)


def _methods(lineage: list[tuple[_Module, ast.ClassDef]]) -> dict[str, list[tuple[_Module, Function]]]:
    """Methods by name: the one that is called, and those it reaches through `super()`."""
    methods: dict[str, list[tuple[_Module, Function]]] = {}
    for module, node in lineage:
        for function in node.body:
            if isinstance(function, Function):
                chain = methods.setdefault(function.name, [])
                if not chain or _calls_super(chain[-1][1]):
                    chain.append((module, function))
    return methods


def _calls_super(function: Function) -> bool:
    return any(isinstance(n, ast.Name) and n.id == "super" for n in ast.walk(function))


def _reached(methods: dict[str, list[tuple[_Module, Function]]]) -> list[tuple[_Module, Function]]:
    """All methods, and the functions of the same package that they call."""
    found = [pair for chain in methods.values() for pair in chain]
    seen = {id(function) for _, function in found}
    for module, function in found:  # grows while it is walked
        for call in _calls(function):
            target = module.definition(call.func.id) if isinstance(call.func, ast.Name) else None
            if target and isinstance(target[1], Function) and id(target[1]) not in seen:
                seen.add(id(target[1]))
                found.append((target[0], target[1]))
    return found


def _calls(function: Function) -> Iterator[ast.Call]:
    return (node for node in ast.walk(function) if isinstance(node, ast.Call))


def _calls_hook(module: _Module, function: Function, hook: str) -> bool:
    return any(module.dotted(call.func) == f"{API}.{hook}" for call in _calls(function))


def _needs(
    lineage: list[tuple[_Module, ast.ClassDef]],
    methods: dict[str, list[tuple[_Module, Function]]],
    reached: list[tuple[_Module, Function]],
) -> Iterator[str]:
    if "prepare" in methods:
        yield "support images"
    called = {call.func.attr for _, f in reached for call in _calls(f) if isinstance(call.func, ast.Attribute)}
    if "validation" in called:
        yield "validation images"
    modules = {module.name: module for module, _ in (*lineage, *reached)}.values()
    own = lineage[0][0].name.partition(".")[0]
    roots = {dotted.partition(".")[0] for module in modules for dotted in module.imports.values()}
    yield from sorted(roots - PROVIDED - sys.stdlib_module_names - {own})
