"""Static description of a plugin, read from its source without importing it.

Listing plugins is therefore fast whatever they import, a broken one does no harm, and the list cannot differ from the
code. Only literals are read: what the class and its bases state, not what their code may do. Hook points in use are
observed by `vlmadapt plugins check`.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from vlmadapt.errors import PluginError
from vlmadapt.registry.source import Assigned, SourceClass, SourceModule, find_class
from vlmadapt.registry.tracks import FEW_SHOT

TOWERS = {"TEXT": "text", "IMAGE": "image"}


@dataclass(frozen=True)
class SourceInfo:
    """What a plugin's source states.

    Attributes:
        file: source file.
        summary: first line of the docstring.
        paper: publication, as cited.
        touches: towers the method works inside.
        track: what the method uses besides labelled images, see `Method.track`.
        learns: whether the method takes anything from training images, see `Method.learns`.
        limitations: checks of the conformance kit that the method cannot pass, each with the reason.
        api_version: plugin API version of a method; None if it is not a literal, or the plugin is not a method.
    """

    file: str
    summary: str = ""
    paper: str = ""
    touches: tuple[str, ...] = ()
    track: str = FEW_SHOT
    learns: bool = True
    limitations: dict[str, str] = field(default_factory=dict)
    api_version: int | None = None


def read_source_info(target: str) -> SourceInfo | None:
    """Read the source of an entry point.

    Args:
        target: `package.module:name`.

    Returns:
        What it states; None if there is no source (a compiled module, a name that only exists at run time).

    Raises:
        PluginError: the module or the name does not exist, or the source is not valid Python.
    """
    try:
        return _read(*target.split(":", 1))
    except RecursionError:
        raise PluginError(f"'{target}' is imported in a circle") from None


def _read(module_name: str, name: str) -> SourceInfo | None:
    module = SourceModule.find(module_name)
    if module is None:
        return None
    found = module.definition(name)
    if found is None:
        if module.makes(name):
            return None
        raise PluginError(f"'{module_name}' does not define '{name}'")
    summary = (ast.get_docstring(found.node) or "").partition("\n")[0]
    if not isinstance(found.node, ast.ClassDef):
        return SourceInfo(str(found.module.path), summary)
    cls = SourceClass(found.module, found.node)
    return SourceInfo(
        file=str(found.module.path),
        summary=summary,
        paper=literal(cls.attribute("paper"), ""),
        touches=_towers(cls.attribute("touches")),
        track=literal(cls.attribute("track"), FEW_SHOT),
        learns=literal(cls.attribute("learns"), True),
        limitations=_limitations(cls.attribute("limitations")),
        api_version=literal(cls.attribute("api_version"), None),
    )


def literal(assigned: Assigned | None, default: Any) -> Any:
    """Value of an expression of literals, or of a module-level constant that it names; otherwise the default."""
    if assigned is None:
        return default
    module, value = assigned
    if isinstance(value, ast.Name):
        return literal(module.assigned(value.id), default)
    try:
        return ast.literal_eval(value)
    except ValueError:
        return default


def _towers(assigned: Assigned | None) -> tuple[str, ...]:
    if assigned is None:
        return ()
    names = [assigned.module.dotted(node).rpartition(".")[2] for node in getattr(assigned.value, "elts", ())]
    return tuple(TOWERS[name] for name in names if name in TOWERS)


def _limitations(assigned: Assigned | None) -> dict[str, str]:
    """The mapping as written; `**Base.limitations` in it adds those of a base class."""
    if assigned is None or not isinstance(assigned.value, ast.Dict):
        return literal(assigned, {})
    found: dict[str, str] = {}
    for key, value in zip(assigned.value.keys, assigned.value.values, strict=True):
        if key is not None:
            text = literal(Assigned(assigned.module, value), "?")
            found[literal(Assigned(assigned.module, key), "?")] = text
        elif isinstance(value, ast.Attribute) and (base := find_class(assigned.module, value.value)):
            found |= _limitations(base.attribute(value.attr))
    return found
