"""Deprecation warnings for public names that will be removed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def warn_deprecated(old: str, new: str) -> None:
    """Warn that `old` will be removed with the next version of the plugin API, and name its replacement."""
    warnings.warn(f"{old} is deprecated; write {new}.", DeprecationWarning, stacklevel=3)


def deprecated_names(module: str, names: Mapping[str, tuple[str, Any]]) -> Callable[[str], Any]:
    """A module-level `__getattr__` for deprecated names.

    Args:
        module: name of the module.
        names: for each old name, the new one and the object.
    """

    def getattribute(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module '{module}' has no attribute '{name}'")
        new, value = names[name]
        warn_deprecated(f"{module}.{name}", f"{module}.{new}")
        return value

    return getattribute


def renamed_arguments(**names: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function accept keyword arguments by their old names, with a warning: `old="new"`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def renaming(*args: P.args, **kwargs: P.kwargs) -> T:
            for old in names.keys() & kwargs.keys():
                if names[old] in kwargs:
                    raise TypeError(f"{function.__name__}() got '{names[old]}' and its old name '{old}'")
                warn_deprecated(f"{function.__name__}({old}=...)", f"{function.__name__}({names[old]}=...)")
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return renaming

    return decorate
