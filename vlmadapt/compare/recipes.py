"""Choice of settings files for a method, by data set, protocol and number of shots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from vlmadapt import registry
from vlmadapt.data.splits import TRANSFER
from vlmadapt.errors import PluginError
from vlmadapt.runs.settings_files import read_settings

RecipeName = Literal["uniform", "paper"]
TRAINED_AS = {"all-classes": "base-to-novel", "domain-generalization": "cross-dataset"}
"""Protocols that train as another one does and test differently."""


@dataclass(frozen=True)
class MethodSettings:
    """Settings of a method, read from files.

    Attributes:
        options: options of the method.
        train: training settings.
        files: names of the files in order; empty if the method's own defaults are used.
        made_for: protocol and shots that the files were published for, if they state them.
    """

    options: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    made_for: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: Mapping[str, Path]) -> MethodSettings:
        """Settings files merged as `fit --config` merges them: key by key, later files win.

        Args:
            paths: files by the names under which they are shown.

        Raises:
            SettingError: a file cannot be read or is not a settings file.
        """
        content = read_settings(paths.values())
        options = {key: value for key, value in content.get("method", {}).items() if key != "name"}
        made_for: dict[str, Any] = {key: content[key] for key in ("protocol", "shots") if key in content}
        return cls(options, content.get("train", {}), tuple(paths), made_for)


def find_recipe(method: str, name: RecipeName, data: str, protocol: str, shots: int) -> MethodSettings:
    """Recipe of a method from its settings files; the method's own defaults if there is no file.

    'uniform' is one file for everything. 'paper' merges `paper.yaml` with the files for the protocol, the number of
    shots and the data set. A file that names its method is complete: files before it are left out. Settings published
    for transfer are complete and apply to ImageNet only.

    Raises:
        PluginError: the method's recipes are registered for a package that is not there.
        SettingError: a file cannot be read or is not a settings file.
    """
    folder, short = recipe_folder(method), method.rpartition(":")[2]
    used: dict[str, Path] = {}
    for file in _files(folder, name, data, TRAINED_AS.get(protocol, protocol), shots):
        path = folder / file
        if path.is_file():
            before = {} if "name" in read_settings([path]).get("method", {}) else used
            used = {**before, f"{short}/{file}": path}
    return MethodSettings.read(used)


def recipe_folder(method: str) -> Path:
    """Folder of a method's settings files.

    Those of another distribution are registered under the method's name in the entry-point group `vlmadapt.recipes`;
    the value is the package whose folder holds them.

    Raises:
        PluginError: that package is not there.
    """
    distribution, _, name = method.rpartition(":")
    for plugin in registry.plugins(registry.RECIPES):
        if plugin.name == name and distribution in ("", plugin.distribution):
            try:
                spec = find_spec(plugin.entry_point.value)
            except ImportError:
                spec = None
            if spec is None or not spec.submodule_search_locations:
                raise PluginError(f"{plugin} is broken: there is no package '{plugin.entry_point.value}'.")
            return Path(spec.submodule_search_locations[0])
    return configs() / name


def _files(folder: Path, name: RecipeName, data: str, protocol: str, shots: int) -> Iterator[str]:
    if name == "uniform":
        yield "uniform.yaml"
        return
    yield "paper.yaml"
    yield f"{protocol}.yaml"
    yield f"{protocol}-{shots}.yaml"
    transfers = protocol in TRANSFER and (folder / f"{protocol}.yaml").is_file()
    if "/" not in data and not transfers:
        yield f"datasets/{data}.yaml"
        yield f"{data}.yaml"


def configs() -> Path:
    """Folder of settings files: inside an installed package, next to it in a checkout."""
    package = Path(str(files("vlmadapt")))
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"
