"""Places of data, class files and backbone: a run finds them from any working folder, and after it was moved with them.

`config.yaml` holds absolute paths, `environment.json` the same ones relative to the run folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmadapt import registry
from vlmadapt.data.load import HUB, is_registered
from vlmadapt.files import exists
from vlmadapt.runs.settings import FitSettings

PLACES = ("data", "targets", "classes", "descriptions", "class_split", "data_root", "backbone")
"""Settings that are paths, or may be: `targets` lists several, `backbone` may be ARCHITECTURE:FILE."""


def absolute(config: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a `config.yaml` with absolute paths; names of registered data sets and backbones stay."""
    return {**config, **{name: _each(config[name], name) for name in PLACES if config.get(name)}}


def relative_places(settings: FitSettings, folder: Path) -> dict[str, str]:
    """Paths of settings by absolute path, relative to a run folder."""
    found: dict[str, str] = {}
    for path in _paths(settings):
        with suppress(ValueError):  # another drive on Windows
            found[path] = Path(os.path.relpath(Path(path).resolve(), folder.resolve())).as_posix()
    return found


def find_places(settings: FitSettings, folder: Path, relative: Mapping[str, str]) -> FitSettings:
    """Settings with paths that no longer exist replaced by the ones relative to the run folder, where these exist.

    Args:
        settings: of a run.
        folder: run folder.
        relative: as `relative_places` gave them.
    """
    moved = {old: str(folder.resolve() / new) for old, new in relative.items() if not exists(Path(old))}
    moved = {old: os.path.normpath(new) for old, new in moved.items() if exists(Path(new))}
    changes: dict[str, Any] = {name: _replaced(value, moved) for name in PLACES if (value := getattr(settings, name))}
    return replace(settings, **changes)


def place_notes(recorded: FitSettings, found: FitSettings) -> tuple[str, ...]:
    """A sentence for each setting that `find_places` has changed."""
    return tuple(
        f"{name} '{before}' does not exist; used instead: '{now}', which lies the same way from the run folder."
        for name in PLACES
        if (before := getattr(recorded, name)) != (now := getattr(found, name))
    )


def _each(value: str, name: str) -> str:
    return (
        ",".join(_absolute(item.strip(), name) for item in value.split(","))
        if name == "targets"
        else (_absolute(value, name))
    )


def _absolute(value: str, name: str) -> str:
    """A path made absolute; anything else as it is."""
    if name in ("data", "targets") and (value.startswith(HUB) or is_registered(value)):
        return value
    if name == "backbone" and _is_backbone_name(value):
        return value
    path = Path(value).expanduser()
    if exists(path):
        return str(path.absolute())
    before, colon, file = value.partition(":")
    return f"{before}:{Path(file).absolute()}" if colon and exists(Path(file)) else value


def _is_backbone_name(value: str) -> bool:
    names = ((plugin.name, f"{plugin.distribution}:{plugin.name}") for plugin in registry.plugins(registry.BACKBONES))
    return value.startswith("hf-hub:") or any(value in pair for pair in names)


def _paths(settings: FitSettings) -> list[str]:
    """Absolute paths of settings."""
    values = [value for name in PLACES if (value := getattr(settings, name))]
    items = [item.strip() for value in values for item in value.split(",")]
    items += [item.partition(":")[2] for item in items]
    return [item for item in dict.fromkeys(items) if item and Path(item).is_absolute()]


def _replaced(value: str, moved: Mapping[str, str]) -> str:
    """A setting with each path, whole or after a comma or a colon, replaced."""
    items = []
    for item in value.split(","):
        before, colon, file = item.strip().partition(":")
        items.append(moved.get(item.strip()) or (f"{before}:{moved[file]}" if colon and file in moved else item))
    return ",".join(items)
