"""Settings files of all commands: YAML mappings, merged key by key with later files winning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vlmadapt.errors import SettingError
from vlmadapt.files import YAML_LIMIT, exists, parse_yaml

SECTIONS = ("method", "train")
"""Settings that are mappings of settings; an empty one is written `train:` in YAML."""


def read_settings(paths: Iterable[Path]) -> dict[str, Any]:
    """Content of settings files, merged key by key; later files win.

    Raises:
        SettingError: a file does not exist, is not valid YAML, or is not a mapping of settings.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = _merged(merged, _read(path))
    return merged


def method_name(path: Path) -> str:
    """Name of the method that a settings file is for.

    Raises:
        SettingError: the file cannot be read, or names no method.
    """
    name = read_settings([path]).get("method", {}).get("name")
    if name is None:
        raise SettingError(f"'{path}' does not say which method it is for; write `method: {{name: NAME}}`.")
    return str(name)


def without_replaced_length(first: Mapping[str, Any], later: Iterable[str]) -> dict[str, Any]:
    """Training settings without `steps_per_shot` if `later` settings give `epochs` alone: they say how long to train.

    Args:
        first: settings of the section `train`.
        later: names of the settings of that section that come later, and win.
    """
    names = set(later)
    replaced = "epochs" in names and "steps_per_shot" not in names
    return {name: value for name, value in first.items() if not (replaced and name == "steps_per_shot")}


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    first = without_replaced_length(first, second)
    both = {
        key: _merged(first[key], value)
        for key, value in second.items()
        if isinstance(value, Mapping) and isinstance(first.get(key), Mapping)
    }
    return {**first, **second, **both}


def _read(path: Path) -> dict[str, Any]:
    if exists(path) and (not path.is_file() or path.stat().st_size > YAML_LIMIT):
        raise SettingError(f"the settings file '{path}' is no regular file of at most {YAML_LIMIT / 2**20:g} MiB.")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        raise SettingError(f"the settings file '{path}' does not exist.") from None
    except UnicodeDecodeError as error:
        raise SettingError(f"the settings file '{path}' is not UTF-8 text.") from error
    except OSError as error:
        raise SettingError(f"the settings file '{path}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        mark = getattr(error.__cause__, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingError(f"'{path}'{line} is not valid YAML.") from error
    if not isinstance(content, dict):
        raise SettingError(f"'{path}' is not a settings file; write `name: value` on each line.")
    for name in SECTIONS:
        section = content.get(name) or {}
        if not isinstance(section, dict):
            form = f"the method as `method: {{name: {section}}}`" if name == "method" else f"`{name}: {{NAME: VALUE}}`"
            raise SettingError(f"'{path}': write {form}.")
        if name in content:
            content[name] = section
    return content
