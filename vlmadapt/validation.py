"""Validation of settings against the annotations of their dataclass, the same wherever they come from.

Checks what YAML, JSON and Python callers can get wrong: names, types, choices (`Literal`), numbers that are not finite.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from enum import Enum
from os import PathLike, fspath
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vlmadapt.errors import SettingError, unknown

KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    list: "a list",
    tuple: "a list",
    dict: "a mapping",
    NoneType: "null",
}
"""Names of types in messages."""


def validated(cls: type[Any], values: Mapping[str, Any], what: str, prefix: str = "") -> dict[str, Any]:
    """Values for fields of a dataclass, converted to the annotated types where that loses nothing.

    Args:
        cls: dataclass that has the fields.
        values: by field name; fields may be missing.
        what: noun for a field in messages, e.g. `training setting`.
        prefix: what the names of fields start with in messages, e.g. `train.`.

    Raises:
        SettingError: a name is unknown or a value does not have the annotated type; the message says which are valid.
    """
    known = {field.name for field in fields(cls)}
    kinds = _annotations(cls)
    for name in values:
        if name not in known:
            raise SettingError(unknown(what, name, known))
    return {name: _converted(value, kinds.get(name, Any), prefix + name) for name, value in values.items()}


def validate(settings: Any) -> None:
    """Validate a settings dataclass in place, frozen or not; values are converted as `validated` does.

    Raises:
        SettingError: see `validated`.
    """
    for name, value in validated(type(settings), vars(settings), "setting").items():
        object.__setattr__(settings, name, value)


def check_range(name: str, value: float, least: float, most: float = math.inf) -> None:
    """Refuse a number outside of `least` to `most`.

    Raises:
        SettingError: the message names the nearest valid value.
    """
    if value < least:
        raise SettingError(f"{name} is {value}, it cannot be below {least}.")
    if value > most:
        raise SettingError(f"{name} is {value}, it cannot be above {most}.")


def _annotations(cls: type[Any]) -> dict[str, Any]:
    try:
        return get_type_hints(cls)
    except NameError:  # an annotation imported for type checkers only; the method then has to check its options itself
        return {}


def _converted(value: Any, kind: Any, name: str) -> Any:
    """The value as `kind`.

    Raises:
        SettingError: it is of another type.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    converted = value
    if origin is Literal:
        converted = _chosen(value, arguments, name)
    elif origin in (Union, UnionType):
        converted = _first_fitting(value, arguments, name)
    elif origin in (list, tuple) and isinstance(value, list | tuple):
        converted = _converted_list(value, origin, arguments, name)
    elif origin is float:
        converted = _number(value, name)
    elif origin is str and isinstance(value, PathLike):
        converted = fspath(value)
    elif isinstance(origin, type) and issubclass(origin, Enum) and isinstance(value, str):
        converted = origin(_chosen(value, [member.value for member in origin], name))
    elif isinstance(origin, type) and (not isinstance(value, origin) or (origin is int and isinstance(value, bool))):
        raise _wrong(value, [origin], name)
    return converted


def _chosen(value: Any, choices: Collection[Any], name: str) -> Any:
    for choice in choices:
        if value == choice and type(value) is type(choice):
            return choice
    raise SettingError(unknown(f"value of {name}", str(value), map(str, choices)))


def _first_fitting(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    refused: list[SettingError] = []
    for kind in kinds:
        try:
            return _converted(value, kind, name)
        except SettingError as error:
            if kind is not NoneType:
                refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    raise _wrong(value, [get_origin(kind) or kind for kind in kinds if kind is not NoneType], name)


def _converted_list(value: Collection[Any], origin: type[Any], kinds: tuple[Any, ...], name: str) -> Any:
    if origin is tuple and kinds and kinds[-1] is not Ellipsis:
        if len(value) != len(kinds):
            raise SettingError(f"{name} is {list(value)}; it has to be a list of {len(kinds)} values.")
        return tuple(_converted(item, kind, name) for item, kind in zip(value, kinds, strict=True))
    return origin(_converted(item, kinds[0] if kinds else Any, name) for item in value)


def _number(value: Any, name: str) -> float:
    """A float; YAML reads `1e-3`, which lacks a point, as text."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        raise _wrong(value, [float], name) from None
    if math.isnan(number):
        raise _wrong(value, [float], name)
    return number


def _wrong(value: Any, kinds: Collection[Any], name: str) -> SettingError:
    words = [KINDS.get(kind) or getattr(kind, "__name__", str(kind)) for kind in kinds]
    return SettingError(f"{name} is '{value}'; it has to be {' or '.join(words)}.")
