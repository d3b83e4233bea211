"""JSON values are compared with stated shapes, and the first place that differs is named."""

from __future__ import annotations

import math
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from vlmadapt.shapes import check_shape


class Inner(TypedDict):
    count: int
    note: NotRequired[str]


class Outer(TypedDict):
    name: str
    kind: Literal["a", "b"]
    parts: list[Inner]
    numbers: dict[str, float | None]
    anything: Any


GOOD: dict[str, Any] = {
    "name": "x",
    "kind": "a",
    "parts": [{"count": 1}, {"count": 2, "note": "n", "more": 3}],
    "numbers": {"one": 1, "half": 0.5, "none": None},
    "anything": object(),
}


def test_a_value_of_the_shape_is_accepted_with_keys_it_does_not_know() -> None:
    check_shape({**GOOD, "unknown": 1}, Outer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 3}, "'name' is no text"),
        ({"kind": "c"}, "'kind' is none of a, b"),
        ({"kind": []}, "'kind' is none of a, b"),
        ({"parts": {}}, "'parts' is no list"),
        ({"parts": [{"count": 1}, {}]}, "'parts[1].count' is missing"),
        ({"parts": [{"count": True}]}, "'parts[0].count' is no whole number"),
        ({"parts": [{"count": 1.0}]}, "'parts[0].count' is no whole number"),
        ({"parts": [{"count": 1, "note": None}]}, "'parts[0].note' is no text"),
        ({"numbers": {"one": "1"}}, "'numbers.one' is no finite number"),
        ({"numbers": {"one": math.nan}}, "'numbers.one' is no finite number"),
        ({"numbers": {"one": 10**400}}, "'numbers.one' is no finite number"),
    ],
)
def test_the_first_place_that_differs_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as refused:
        check_shape({**GOOD, **changes}, Outer)
    assert str(refused.value) == message


def test_a_missing_key_and_a_value_that_is_no_object_are_told() -> None:
    with pytest.raises(ValueError, match=r"^'name' is missing$"):
        check_shape({}, Outer)
    with pytest.raises(ValueError, match=r"^it is no JSON object$"):
        check_shape([], Outer)


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "1", None, 10**400])
def test_numbers_are_finite(value: object) -> None:
    with pytest.raises(ValueError, match="it is no finite number"):
        check_shape(value, float)
