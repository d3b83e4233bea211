"""Data sets that are registered as plugins."""

from __future__ import annotations

from pathlib import Path

from vlmadapt import registry
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.source import ROOT, DataSource, Included, data_root
from vlmadapt.errors import DataError, PluginError, VlmadaptError
from vlmadapt.text import first_line


def registered_names() -> set[str]:
    """All names of registered data sets, without importing any."""
    plugins = registry.plugins(registry.DATASETS)
    return {name for p in plugins for name in (p.name, f"{p.distribution}:{p.name}")}


def find_source(name: str) -> DataSource:
    """The registered data set of this name, without its data.

    Raises:
        PluginError: there is none or more than one, or its import fails, or it is no data set.
    """
    plugin = registry.find(registry.DATASETS, name)
    made = plugin.load()
    if isinstance(made, type) and issubclass(made, DataSource):
        made = made()
    if isinstance(made, DataSource):
        return made
    if not callable(made):
        raise PluginError(f"{_origin(name)} is broken: it is neither a vlmadapt.plugin.DataSource nor a function.")
    return Included(made)


def load_registered(name: str, root: Path | None = None) -> Dataset:
    """A registered data set.

    Args:
        name: registered name.
        root: folder of the data sets, by default `$VLMADAPT_DATA`.

    Raises:
        DataError: it needs a data root and none is given, or a part of it is missing.
        PluginError: see `find_source`.
    """
    source = find_source(name)
    try:
        dataset: object = source.load(require_root(name, source, root))
    except VlmadaptError:
        raise
    except Exception as error:
        raise PluginError(f"{_origin(name)} is broken: {first_line(error, named=True)}") from error
    if not isinstance(dataset, Dataset):
        kind = type(dataset).__name__
        raise PluginError(f"{_origin(name)} is broken: it returns {kind}, not vlmadapt.plugin.Dataset.")
    return dataset


def require_root(name: str, source: DataSource, root: Path | None) -> Path:
    """The data root for a data set; the current folder for one that needs none.

    Raises:
        DataError: the data set needs a root and none is given, or the root is no folder.
    """
    folder = data_root(root)
    if not source.needs_root:
        return folder or Path()
    if folder is None:
        raise DataError(
            f"data set '{name}' is looked for in the folder of your data sets: give it with --data_root DIR or set "
            f"{ROOT}; `vlmadapt data prepare {name} --data_root DIR` downloads the data set."
        )
    if folder.exists() and not folder.is_dir():
        raise DataError(f"the data root '{folder}' is a file; give the folder of your data sets.")
    return folder


def _origin(name: str) -> str:
    plugin = registry.find(registry.DATASETS, name)
    return f"data set '{name}' from distribution '{plugin.distribution} {plugin.version}'"
