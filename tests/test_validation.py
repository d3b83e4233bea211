"""Settings that cannot be are refused with what is valid, and nothing is changed that loses something."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest

from vlmadapt.errors import SettingError
from vlmadapt.validation import check_range, validate, validated


class Colour(StrEnum):
    RED = "red"


@dataclass
class Options:
    count: int = 1
    rate: float = 0.5
    name: str = ""
    on: bool = False
    mode: Literal["fast", "slow"] = "fast"
    maybe: int | None = None
    either: int | str = 1
    items: list[int] = field(default_factory=list)
    pair: tuple[float, float] = (0.0, 1.0)
    many: tuple[int, ...] = ()
    colour: Colour = Colour.RED
    extra: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"count": 3}, 3),
        ({"rate": 2}, 2.0),
        ({"rate": "1e-3"}, 1e-3),  # YAML reads it as text
        ({"rate": math.inf}, math.inf),
        ({"name": Path("a/b")}, "a/b"),
        ({"mode": "slow"}, "slow"),
        ({"maybe": None}, None),
        ({"maybe": 4}, 4),
        ({"either": "x"}, "x"),
        ({"items": (1, 2)}, [1, 2]),
        ({"pair": [0, 1]}, (0.0, 1.0)),
        ({"many": [1, 2, 3]}, (1, 2, 3)),
        ({"colour": "red"}, Colour.RED),
        ({"extra": {"a": 1}}, {"a": 1}),
    ],
)
def test_values_of_the_annotated_type_are_kept(given: dict[str, Any], kept: Any) -> None:
    (value,) = validated(Options, given, "option").values()
    assert value == kept
    assert type(value) is type(kept)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"coutn": 3}, "unknown option 'coutn'. Did you mean 'count'?"),
        ({"count": 3.0}, "run.count is '3.0'; it has to be a whole number."),
        ({"count": True}, "run.count is 'True'; it has to be a whole number."),
        ({"count": "3"}, "run.count is '3'; it has to be a whole number."),
        ({"rate": "fast"}, "run.rate is 'fast'; it has to be a number."),
        ({"rate": math.nan}, "run.rate is 'nan'; it has to be a number."),
        ({"rate": False}, "run.rate is 'False'; it has to be a number."),
        ({"rate": None}, "run.rate is 'None'; it has to be a number."),
        ({"name": 3}, "run.name is '3'; it has to be text."),
        ({"on": 1}, "run.on is '1'; it has to be true or false."),
        ({"mode": "fats"}, "unknown value of run.mode 'fats'. Did you mean 'fast'? Known: fast, slow."),
        ({"mode": ["fast"]}, "unknown value of run.mode"),
        ({"maybe": "x"}, "run.maybe is 'x'; it has to be a whole number."),
        ({"either": 1.5}, "run.either is '1.5'; it has to be a whole number or text."),
        ({"items": [1, "b"]}, "run.items is 'b'; it has to be a whole number."),
        ({"items": 3}, "run.items is '3'; it has to be a list."),
        ({"pair": [1]}, "run.pair is [1]; it has to be a list of 2 values."),
        ({"colour": "rad"}, "unknown value of run.colour 'rad'. Did you mean 'red'?"),
        ({"extra": [1]}, "run.extra is '[1]'; it has to be a mapping."),
    ],
)
def test_values_of_another_type_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as refused:
        validated(Options, given, "option", "run.")
    assert message in str(refused.value)


def test_a_number_out_of_range_is_refused_with_the_nearest_valid_one() -> None:
    check_range("x", 0, 0, 1)
    check_range("x", 1, 0, 1)
    with pytest.raises(SettingError, match=r"x is -1, it cannot be below 0\."):
        check_range("x", -1, 0, 1)
    with pytest.raises(SettingError, match=r"x is inf, it cannot be above 1\."):
        check_range("x", math.inf, 0, 1)


@dataclass(frozen=True)
class Frozen:
    rate: float
    names: tuple[str, ...] = ()


def test_settings_are_validated_in_place() -> None:
    settings = Frozen(rate="1e-3", names=["a", "b"])  # type: ignore[arg-type]
    validate(settings)
    assert settings == Frozen(rate=0.001, names=("a", "b"))
    with pytest.raises(SettingError, match="rate is 'fast'; it has to be a number"):
        validate(Frozen(rate="fast"))  # type: ignore[arg-type]
