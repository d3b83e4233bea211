"""Check for misspelt hooks: a method that is never called fails silently."""

from __future__ import annotations

from difflib import get_close_matches
from types import FunctionType

from vlmadapt.core.method import Method
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest

HOOKS = tuple(
    name
    for name, value in vars(Method).items()
    if not name.startswith("_") and isinstance(value, FunctionType | property)
)
"""Methods and properties that vlmadapt calls or reads."""


def hook_names(tested: MethodUnderTest) -> None:
    """None of its methods is almost called like one that vlmadapt calls."""
    own = {name: base for base in tested.cls.__mro__ if issubclass(base, Method) for name in vars(base)}
    for name, base in own.items():
        if base is Method or name in HOOKS or name.startswith("_") or not isinstance(vars(base)[name], FunctionType):
            continue
        if near := get_close_matches(name, HOOKS, n=1, cutoff=0.8):
            raise CheckFailed(f"`{name}` is never called by vlmadapt; is it meant to be `{near[0]}`?")
