"""Recipes: the settings files of a method for a data set, a protocol and a number of shots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

import vlmadapt
from vlmadapt.data.splits import TRANSFER
from vlmadapt.errors import VlmadaptError

RecipeName = Literal["uniform", "paper"]
TRAINED_AS = {"all-classes": "base-to-novel", "domain-generalization": "cross-dataset"}
"""Protocols that train like another one and test differently."""


@dataclass(frozen=True)
class MethodSettings:
    """Settings of a method, merged from files.

    Attributes:
        options: options of the method.
        train: training settings.
        files: the files, in order; empty if the method's defaults are used.
        made_for: protocol and shots that the files were published for, if they name them.
    """

    options: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    made_for: dict[str, Any] = field(default_factory=dict)

    def with_file(self, path: Path, label: str) -> MethodSettings:
        """Add a file; one that names its method is complete and replaces all files before it."""
        content = read_settings(path)
        method = dict(content.get("method") or {})
        before = MethodSettings() if method.pop("name", None) else self
        made_for: dict[str, Any] = {key: content[key] for key in ("protocol", "shots") if key in content}
        return MethodSettings(
            {**before.options, **method},
            {**before.train, **(content.get("train") or {})},
            (*before.files, label),
            {**before.made_for, **made_for},
        )


def find_recipe(method: str, name: RecipeName, data: str, protocol: str, shots: int) -> MethodSettings:
    """A method's recipe; without a file, the method's defaults, which are the published ones.

    'uniform' is one file for everything. 'paper' starts from `paper.yaml` and adds the files for the protocol, for its
    number of shots, and for the data set, if they exist. Settings published for transfer are complete, because they
    are for ImageNet alone.
    """
    found = MethodSettings()
    for label in _files(method.rpartition(":")[2], name, data, TRAINED_AS.get(protocol, protocol), shots):
        path = configs() / label
        if path.is_file():
            found = found.with_file(path, label)
    return found


def _files(method: str, name: RecipeName, data: str, protocol: str, shots: int) -> Iterator[str]:
    if name == "uniform":
        yield f"{method}/uniform.yaml"
        return
    yield f"{method}/paper.yaml"
    yield f"{method}/{protocol}.yaml"
    yield f"{method}/{protocol}-{shots}.yaml"
    transfers = protocol in TRANSFER and (configs() / method / f"{protocol}.yaml").is_file()
    if "/" not in data and not transfers:
        yield f"{method}/datasets/{data}.yaml"
        yield f"{method}/{data}.yaml"


def configs() -> Path:
    """The folder of settings files: inside an installed package, next to the package in a checkout."""
    package = Path(vlmadapt.__file__).parent
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def read_settings(path: Path) -> dict[str, Any]:
    """Read a settings file of `fit`.

    Raises:
        VlmadaptError: the file cannot be read or is no settings file.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise VlmadaptError(f"the settings file '{path}' cannot be read: {str(error).splitlines()[0]}.") from error
    if not isinstance(content, dict) or not isinstance(content.get("method") or {}, dict):
        raise VlmadaptError(f"'{path}' is not a settings file of `vlmadapt fit`; it needs `method: {{name: NAME}}`.")
    return content


def named_method(path: Path) -> str:
    """Name of the method in a settings file.

    Raises:
        VlmadaptError: the file names none.
    """
    name = (read_settings(path).get("method") or {}).get("name")
    if not name:
        raise VlmadaptError(f"'{path}' names no method; write `method: {{name: NAME}}`.")
    return str(name)
