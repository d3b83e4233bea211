"""Check the options: documented plain values that can be saved and loaded."""

from __future__ import annotations

import json
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from typing import Any

from jsonargparse import ArgumentParser

from vlmadapt.core.build import make_config
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def config(tested: MethodUnderTest) -> None:
    """Its options have defaults, are documented, and survive being saved."""
    cls = tested.cls.Config
    if not is_dataclass(cls):
        raise CheckFailed("its `Config` is not a dataclass.")
    for field in fields(cls):
        if field.default is MISSING and field.default_factory is MISSING:
            raise CheckFailed(f"the option '{field.name}' has no default.", "give it the published value.")
        if not _documented(cls, field):
            raise CheckFailed(
                f"the option '{field.name}' is not documented.",
                f"describe it under `Args:` in the docstring of {cls.__name__}; `--help` shows it.",
            )
    given = asdict(tested.config)
    try:
        written = json.loads(json.dumps(given))
    except TypeError as error:
        raise CheckFailed(f"its options cannot be written as JSON: {error}.") from error
    if make_config(tested.cls, written) != tested.config:
        raise CheckFailed("its options are not the same when they are read back.", "use lists instead of tuples.")
    ArgumentParser(exit_on_error=False).add_class_arguments(cls, "method")
    if asdict(tested.trained.method.config) != given:
        raise CheckFailed("its options change while it is fitted.", "keep derived values on the method instead.")


def _documented(cls: type[Any], field: Field[Any]) -> bool:
    texts = [base.__doc__ or "" for base in cls.__mro__]
    return any(line.strip().startswith(f"{field.name}:") for text in texts for line in text.splitlines())
