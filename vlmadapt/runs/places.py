"""Places of data, class files and backbone: a run finds them from any working folder, and after it was moved with them.

`config.yaml` holds absolute paths, `environment.json` the same ones relative to the run folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vlmadapt import registry
from vlmadapt.data.load import HUB, is_registered
from vlmadapt.files import exists
from vlmadapt.runs.settings import FitSettings

PLACES = ("data", "targets", "classes", "descriptions", "class_split", "data_root", "backbone")
"""Settings that are paths, or may be: `targets` lists several, `backbone` may end with one, ARCHITECTURE:FILE."""


def absolute(config: Mapping[str, Any]) -> dict[str, Any]:
    """Content of a `config.yaml` with absolute paths; names of registered data sets and backbones stay."""
    return {**config, **{name: _absolute(config[name], name) for name in PLACES if config.get(name)}}


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
    given = {name: value for name in PLACES if (value := getattr(settings, name))}
    changes: dict[str, Any] = {name: _replaced(value, name, moved) for name, value in given.items()}
    return replace(settings, **changes)


def place_notes(recorded: FitSettings, found: FitSettings) -> tuple[str, ...]:
    """A sentence for each setting that `find_places` has changed."""
    return tuple(
        f"{name} '{before}' does not exist; used instead: '{now}', which lies the same way from the run folder."
        for name in PLACES
        if (before := getattr(recorded, name)) != (now := getattr(found, name))
    )


def _absolute(value: str, name: str) -> str:
    return ",".join(_absolute_path(item.strip(), name) for item in _items(value, name))


def _absolute_path(value: str, name: str) -> str:
    """A path made absolute; anything else as it is."""
    if name in ("data", "targets") and (value.startswith(HUB) or is_registered(value)):
        return value
    if name == "backbone" and _is_backbone_name(value):
        return value
    for before, given in _readings(value, name):
        path = Path(given).expanduser()
        if exists(path) and (path.is_file() or not before):  # a folder may be called like the tag of a backbone
            return f"{before}{path.absolute()}"
    return value


def _is_backbone_name(value: str) -> bool:
    names = ((plugin.name, f"{plugin.distribution}:{plugin.name}") for plugin in registry.plugins(registry.BACKBONES))
    return value.startswith(("hf-hub:", HUB)) or any(value in pair for pair in names)


def _paths(settings: FitSettings) -> list[str]:
    """Absolute paths of settings."""
    items = [(item.strip(), name) for name in PLACES for item in _items(getattr(settings, name) or "", name)]
    paths = [path for item, name in items for _, path in _readings(item, name)]
    return [path for path in dict.fromkeys(paths) if Path(path).is_absolute()]


def _replaced(value: str, name: str, moved: Mapping[str, str]) -> str:
    """A setting with the paths that moved replaced."""
    return ",".join(
        next((before + moved[path] for before, path in _readings(item.strip(), name) if path in moved), item)
        for item in _items(value, name)
    )


def _items(value: str, name: str) -> list[str]:
    return value.split(",") if name == "targets" else [value]


def _readings(value: str, name: str) -> Iterator[tuple[str, str]]:
    """A value split into a path and what stands before it, in each way that its setting allows.

    `FOLDER` for all settings, and for a backbone also `ARCHITECTURE:FILE` and `ARCHITECTURE:TAG:FILE`.
    """
    yield "", value
    if name == "backbone":
        for colon in (i for i, character in enumerate(value, start=1) if character == ":"):
            yield value[:colon], value[colon:]
