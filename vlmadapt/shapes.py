"""Shapes of JSON values, stated as Python types: `TypedDict`, `list`, `dict`, `Literal`, unions and plain types.

Unlike settings, which `vlmadapt.validation` converts, values in files are what the program wrote: nothing is converted,
and numbers that are not finite are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

NAMES: dict[Any, str] = {
    int: "whole number",
    float: "finite number",
    bool: "true or false",
    str: "text",
    list: "list",
    dict: "JSON object",
    NoneType: "null",
}
"""Names of JSON types in messages."""
EXACT = (int, bool, str)
"""Types of nearly all values in files, which need no look inside."""


def check_shape(value: object, shape: Any, place: str = "") -> None:
    """Refuse a JSON value that does not have a shape; keys that a `TypedDict` does not know are ignored.

    Args:
        value: JSON value.
        shape: type that it should have.
        place: keys and indices that lead to it, for messages.

    Raises:
        ValueError: the message names the first place that is missing or of another type.
    """
    exact = type(value) in EXACT
    if shape is Any or (exact and type(value) is shape):
        return
    origin, arguments = _opened(shape)
    if origin in (Union, UnionType):
        if not (exact and type(value) in arguments):
            _check_any(value, arguments, place)
    elif origin is Literal:
        if value not in arguments:
            raise ValueError(f"{_quoted(place)} is none of {', '.join(map(str, arguments))}")
    else:
        _check_kind(value, dict if is_typeddict(origin) else origin, place)
        for part, kind, where in _parts(value, origin, arguments, place):
            check_shape(part, kind, where)


@cache
def _opened(shape: Any) -> tuple[Any, tuple[Any, ...]]:
    """`list[int]` as `list` and `(int,)`; a plain type as itself without arguments."""
    return get_origin(shape) or shape, get_args(shape)


def _check_any(value: object, shapes: tuple[Any, ...], place: str) -> None:
    """Refuse a value that has none of the shapes, with the message for the first one."""
    refused: list[ValueError] = []
    for shape in shapes:
        try:
            return check_shape(value, shape, place)
        except ValueError as error:
            refused.append(error)
    raise refused[0]


def _check_kind(value: object, kind: Any, place: str) -> None:
    """Refuse a value of another type, whatever it contains."""
    if kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    else:
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise ValueError(f"{_quoted(place)} is no {NAMES[kind]}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


def _parts(value: Any, shape: Any, arguments: tuple[Any, ...], place: str) -> Iterator[tuple[object, Any, str]]:
    """The values inside a value, each with its shape and place.

    Raises:
        ValueError: one is missing.
    """
    if is_typeddict(shape):
        for name, stated, optional in _keys(shape):
            where = f"{place}.{name}" if place else name
            if name in value:
                yield value[name], stated, where
            elif not optional:
                raise ValueError(f"{_quoted(where)} is missing")
    elif shape is dict and arguments:
        for name, part in value.items():
            yield part, arguments[1], f"{place}.{name}" if place else name
    elif shape is list and arguments:
        for index, part in enumerate(value):
            yield part, arguments[0], f"{place}[{index}]"


@cache
def _keys(shape: Any) -> list[tuple[str, Any, bool]]:
    """Name and shape of each key of a `TypedDict`, and whether it may be missing."""
    hints = get_type_hints(shape, include_extras=True).items()
    optional = {name for name, stated in hints if get_origin(stated) is NotRequired}
    return [(name, get_args(stated)[0] if name in optional else stated, name in optional) for name, stated in hints]


def _quoted(place: str) -> str:
    return f"'{place[:80]}'" if place else "it"
