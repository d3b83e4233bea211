"""Options and training recipe of a method, read from its source so that `--help` and wrong options need no import.

Only literals are read. Anything else (a default that is computed, a type of the plugin's own) makes the caller import
the method instead.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import field, make_dataclass
from functools import reduce
from operator import or_
from typing import Any, Literal, NamedTuple

from vlmadapt.errors import PluginError
from vlmadapt.registry.source import SourceClass, SourceModule, find_class

TYPES: Mapping[str, Any] = {
    "int": int,
    "float": float,
    "str": str,
    "bool": bool,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "Any": Any,
    "Literal": Literal,
}
"""Names that annotations may consist of."""


class SourceOptions(NamedTuple):
    """What a method's source states about its settings.

    Attributes:
        config: dataclass with the fields, defaults and docstring of the method's `Config`.
        recipe: arguments of the method's `Recipe(...)`.
    """

    config: type[Any]
    recipe: dict[str, Any]


class _NotLiteralError(ValueError):
    """The source does not say it in literals."""


def read_source_options(target: str) -> SourceOptions | None:
    """Read the options of the method at an entry point.

    Args:
        target: `package.module:name`.

    Returns:
        Options and recipe; None if the source does not state them as literals or cannot be read.
    """
    try:
        module_name, _, name = target.partition(":")
        module = SourceModule.find(module_name)
        cls = module and find_class(module, ast.Name(name))
        return SourceOptions(_config(cls), _recipe(cls)) if cls else None
    except (PluginError, RecursionError, ValueError):
        return None


def _config(cls: SourceClass) -> type[Any]:
    stated = cls.attribute("Config")
    config = stated and find_class(*stated)
    if config is None:
        raise _NotLiteralError
    made: tuple[type[Any], ...] = ()
    for module, node in reversed(config.lineage):  # each class derives from the one before, as dataclasses inherit
        assert isinstance(node, ast.ClassDef)
        if not _is_dataclass(module, node) or len(node.bases) > 1:
            raise _NotLiteralError
        own = [_field(module, statement) for statement in node.body if isinstance(statement, ast.AnnAssign)]
        namespace = {"__doc__": ast.get_docstring(node, clean=False)}
        made = (make_dataclass(node.name, own, bases=made, namespace=namespace),)
    return made[0]


def _is_dataclass(module: SourceModule, node: ast.ClassDef) -> bool:
    called = [decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in node.decorator_list]
    return [module.dotted(decorator) for decorator in called] == ["dataclasses.dataclass"]


def _field(module: SourceModule, statement: ast.AnnAssign) -> tuple[str, Any, Any]:
    """Name, type and `dataclasses.field` of an option."""
    if not isinstance(statement.target, ast.Name) or statement.value is None:
        raise _NotLiteralError
    return statement.target.id, _type(module, statement.annotation), _default(module, statement.value)


def _default(module: SourceModule, value: ast.expr) -> Any:
    if not isinstance(value, ast.Call):
        return field(default=_literal(module, value))
    factory = {keyword.arg: keyword.value for keyword in value.keywords}.get("default_factory")
    if module.dotted(value.func) != "dataclasses.field" or factory is None:
        raise _NotLiteralError
    if isinstance(factory, ast.Lambda):
        content = factory.body
        _literal(module, content)
        return field(default_factory=lambda: _literal(module, content))
    made: Any = TYPES.get(module.dotted(factory))
    if made not in (list, dict):
        raise _NotLiteralError
    return field(default_factory=made)


def _type(module: SourceModule, node: ast.expr) -> Any:
    """The type that an annotation of builtins, `Literal`, unions and aliases of these stands for."""
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return reduce(or_, (_type(module, side) for side in (node.left, node.right)))
    if isinstance(node, ast.Subscript):
        outer = _type(module, node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        read = _literal if outer is Literal else _type
        return outer[tuple(read(module, item) for item in inner)]
    known = TYPES.get(module.dotted(node).removeprefix("typing."))
    if known is not None:
        return known
    alias = module.assigned(node.id) if isinstance(node, ast.Name) else None
    if alias is None:
        raise _NotLiteralError
    return _type(*alias)


def _recipe(cls: SourceClass) -> dict[str, Any]:
    stated = cls.attribute("recipe")
    if stated is None or not isinstance(stated.value, ast.Call) or stated.value.args:
        raise _NotLiteralError
    if stated.module.dotted(stated.value.func).rpartition(".")[2] != "Recipe":
        raise _NotLiteralError
    return {keyword.arg or "": _literal(stated.module, keyword.value) for keyword in stated.value.keywords}


def _literal(module: SourceModule, value: ast.expr) -> Any:
    if isinstance(value, ast.Name):
        constant = module.assigned(value.id)
        if constant is None:
            raise _NotLiteralError
        return _literal(*constant)
    return ast.literal_eval(value)  # raises ValueError where it is no literal
