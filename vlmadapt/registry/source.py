"""Python source of plugins, parsed and never run: where a class is defined, its bases, and its class attributes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, resolve_name
from pathlib import Path
from typing import NamedTuple

from vlmadapt.errors import PluginError

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Defined(NamedTuple):
    """A class or function, and the module that defines it."""

    module: SourceModule
    node: Definition


class Assigned(NamedTuple):
    """An expression that a name is set to, and the module in which it is written."""

    module: SourceModule
    value: ast.expr


class SourceModule:
    """A parsed module.

    Attributes:
        name: dotted name.
        path: source file.
        definitions: top-level classes and functions.
        assignments: top-level variables.
        imports: dotted name of each imported name.

    Raises:
        PluginError: the file is not valid Python.
    """

    def __init__(self, name: str, path: Path):
        self.name = name
        self.path = path
        body = _parse(path).body
        self.definitions = {node.name: node for node in body if isinstance(node, Definition)}
        self.assignments = dict(_assignments(body))
        self.imports = dict(self._imports(body))

    @classmethod
    def find(cls, name: str) -> SourceModule | None:
        """The module of a dotted name; None if it is not written in Python.

        Raises:
            PluginError: there is no such module.
        """
        spec = _spec(name)
        if spec is None:
            raise PluginError(f"ModuleNotFoundError: there is no module '{name}'")
        path = Path(spec.origin or "")
        return _parsed(name, path, path.stat().st_mtime_ns) if path.suffix == ".py" and path.is_file() else None

    def definition(self, name: str) -> Defined | None:
        """A class or function by its name here, possibly imported from another module."""
        if name in self.definitions:
            return Defined(self, self.definitions[name])
        source = self._origin(name)
        return source[0].definition(source[1]) if source else None

    def assigned(self, name: str) -> Assigned | None:
        """The value of a variable by its name here, possibly imported from another module."""
        if name in self.assignments:
            return Assigned(self, self.assignments[name])
        source = self._origin(name)
        return source[0].assigned(source[1]) if source else None

    def dotted(self, node: ast.expr) -> str:
        """Dotted name of an expression like `a.b`, with imports resolved; '' for any other expression."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (inner := self.dotted(node.value)):
            return f"{inner}.{node.attr}"
        return ""

    def makes(self, name: str) -> bool:
        """Whether running the module may define a name that its source does not."""
        return name in self.assignments or name in self.imports or "__getattr__" in self.definitions

    def _imports(self, body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
        package = self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]
        for node in (node for statement in body for node in ast.walk(statement)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield (alias.asname, alias.name) if alias.asname else (alias.name.partition(".")[0],) * 2
            elif isinstance(node, ast.ImportFrom):
                relative = "." * node.level + (node.module or "")
                source = resolve_name(relative, package) if node.level else relative
                for alias in node.names:
                    yield alias.asname or alias.name, f"{source}.{alias.name}"

    def _origin(self, name: str) -> tuple[SourceModule, str] | None:
        """The module that an imported name comes from, and its name there."""
        source, _, imported = self.imports.get(name, "").rpartition(".")
        if not source or source == self.name or _spec(source) is None:
            return None
        module = SourceModule.find(source)
        return (module, imported) if module else None


class SourceClass:
    """A parsed class together with its bases.

    Attributes:
        lineage: the class and its bases as far as they have source, nearest first.
    """

    def __init__(self, module: SourceModule, node: ast.ClassDef):
        self.lineage = [Defined(module, node)]
        for owner, child in self.lineage:  # grows while it is walked
            assert isinstance(child, ast.ClassDef)
            for base in child.bases:
                found = _class_of(owner, base)
                if found and all(found.node is not known for _, known in self.lineage):
                    self.lineage.append(found)

    def attribute(self, name: str) -> Assigned | None:
        """The value of a class attribute in the nearest class that sets it."""
        for module, node in self.lineage:
            value = dict(_assignments(node.body)).get(name)
            if value is not None:
                return Assigned(module, value)
        return None


def find_class(module: SourceModule, expression: ast.expr) -> SourceClass | None:
    """The class that an expression like `Base` or `api.Base` names; None if it has no source."""
    found = _class_of(module, expression)
    return SourceClass(found.module, found.node) if found and isinstance(found.node, ast.ClassDef) else None


def _class_of(module: SourceModule, expression: ast.expr) -> Defined | None:
    if isinstance(expression, ast.Name):
        found = module.definition(expression.id)
    else:
        owner, _, name = module.dotted(expression).rpartition(".")
        source = SourceModule.find(owner) if owner and _spec(owner) else None
        found = source.definition(name) if source else None
    return found if found and isinstance(found.node, ast.ClassDef) else None


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise PluginError(f"SyntaxError: {error.msg} ({path.name}, line {error.lineno})") from error
    except ValueError as error:
        raise PluginError(f"SyntaxError: {error} ({path.name})") from error


@lru_cache(maxsize=256)
def _parsed(name: str, path: Path, changed: int) -> SourceModule:
    return SourceModule(name, path)


def _assignments(body: list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    """Names and values of statements `name = value` and `name: annotation = value`."""
    for statement in body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign) or statement.value is None:
            continue
        target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
        if isinstance(target, ast.Name):
            yield target.id, statement.value


def _spec(name: str) -> ModuleSpec | None:
    """Location of a module, found without importing the packages that contain it."""
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
