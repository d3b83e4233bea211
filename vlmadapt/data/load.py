"""A data set by the name it is registered under, or from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vlmadapt import registry
from vlmadapt.data.classes import read_class_names
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.folder import LAYOUT, read_folder
from vlmadapt.data.templates import check_templates
from vlmadapt.errors import DataError, PluginError, VlmadaptError, unknown


def load_data(spec: str, *, templates: Sequence[str] | None = None, classes: Path | None = None) -> Dataset:
    """The data set called `spec`; a folder of a registered name is reached as `./name`.

    Args:
        spec: a registered name, `distribution:name` where two distributions use it, or a folder (see `read_folder`).
        templates: prompt templates instead of the data set's own.
        classes: file with readable class names instead of the data set's own (see `read_class_names`).

    Raises:
        DataError: there is no such data set or folder, or it is not as it must be.
        PluginError: the registered data set is broken or ambiguous.
    """
    registered = {name for p in registry.plugins(registry.DATASETS) for name in (p.name, f"{p.distribution}:{p.name}")}
    if spec in registered:
        dataset = _registered(spec)
        if classes:
            dataset = replace(dataset, classes=read_class_names(classes, dataset.classes))
    else:
        dataset = read_folder(_folder(spec, registered), classes=classes)
    return replace(dataset, templates=check_templates(dataset.templates if templates is None else templates))


def _registered(name: str) -> Dataset:
    plugin = registry.find(registry.DATASETS, name)
    origin = f"data set '{name}' from distribution '{plugin.distribution} {plugin.version}'"
    make = plugin.load()
    try:
        dataset = make()
    except VlmadaptError:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {error}".splitlines()[0]
        raise PluginError(f"{origin} is broken: {cause}") from error
    if not isinstance(dataset, Dataset):
        raise PluginError(f"{origin} is broken: it returns {type(dataset).__name__}, not vlmadapt.plugin.Dataset.")
    return dataset


def _folder(spec: str, registered: set[str]) -> Path:
    path = Path(spec).expanduser()
    is_word = path.name == spec  # a bare word that is no folder is taken for a misspelt name, not for a lost folder
    if is_word and not path.exists():
        names = {name for name in registered if ":" not in name}
        raise DataError(f"{unknown('data set', spec, names)} For your own images give a folder with {LAYOUT}.")
    return path
