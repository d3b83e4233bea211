"""Options of a method on the command line, known from its source before anything heavy is imported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jsonargparse import ArgumentParser

from vlmadapt import registry
from vlmadapt.core.build import method_class
from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import SettingError
from vlmadapt.registry.source_options import read_source_options


def method_options(name: str, wraps: str | None = None) -> tuple[type[Any], Recipe]:
    """The `Config` of a method, and its published training settings.

    They are read from the source; the method is imported only if it does not state them as literals.

    Args:
        name: registered name.
        wraps: registered name of the method inside, for a wrapper; by default the one it wraps by default.

    Raises:
        PluginError: the method is unknown, ambiguous, broken, or written for an unsupported plugin API version.
    """
    plugin = registry.find(registry.METHODS, name)
    plugin.check_stated_api()
    try:
        if source := read_source_options(plugin.target):
            return source.config, Recipe(**source.recipe)
    except (SettingError, TypeError):  # the import says what is wrong with the recipe
        pass
    cls = method_class(name)
    config = cls.Config()
    if wraps is not None and hasattr(config, "wraps"):
        config = replace(config, wraps=wraps)
    return cls.Config, cls.recipe_for(config)


def add_method_options(parser: ArgumentParser, name: str) -> None:
    """Add `--method.OPTION` for each option of a method."""
    parser.add_class_arguments(method_options(name)[0], "method", help=f"options of {name}")
