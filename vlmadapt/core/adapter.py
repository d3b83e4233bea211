"""Saved adapters: the trained tensors, and a config with everything needed to verify that they fit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from torch import Tensor

from vlmadapt import registry
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.backbone.identity import differences
from vlmadapt.core.build import build_method
from vlmadapt.core.method import Method, Task
from vlmadapt.errors import AdapterError, DataError, VlmadaptError
from vlmadapt.files import as_json, as_safetensors, content_sha256, read_json, replacing
from vlmadapt.shapes import check_shape
from vlmadapt.text import first_line

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FORMAT = 3
DESCRIBED_FORMAT = 4
READABLE_FORMATS = (1, 2, 3, 4)
"""Format 1 lacks the class list, and of the backbone it states the weights alone; format 2 lacks `config_sha256`; only
format 4 has `descriptions`."""


class Origin(TypedDict):
    """Distribution that provides a method."""

    name: str
    version: str


class TrainedOn(TypedDict):
    """Backbone of an adapter; more keys are those of `Backbone.identity`."""

    name: str
    sha256: str


class ConfigFile(TypedDict):
    """`adapter_config.json`, see `AdapterConfig`."""

    method: str
    options: dict[str, Any]
    distribution: Origin
    api_version: int
    backbone: TrainedOn
    templates: list[str]
    weights_sha256: str
    classes: NotRequired[list[str]]
    descriptions: NotRequired[dict[str, list[str]]]
    config_sha256: NotRequired[str]
    format: int


@dataclass(frozen=True)
class AdapterConfig:
    """Content of `adapter_config.json`.

    Attributes:
        method: registered name.
        options: options of the method.
        distribution: name and version of the distribution that provides the method.
        api_version: version of the plugin API it was saved with.
        backbone: name and identity (`Backbone.identity`) of the backbone it was trained on.
        templates: prompt templates used in training.
        weights_sha256: SHA-256 of the file with the tensors.
        classes: names of the classes it was trained on, in the order of its labels; none if it answers for others.
        descriptions: sentences by class name of a method that reads them.
        config_sha256: SHA-256 of all of this but itself.
        format: version of these two files.
    """

    method: str
    options: dict[str, Any]
    distribution: dict[str, str]
    api_version: int
    backbone: dict[str, Any]
    templates: list[str]
    weights_sha256: str
    classes: list[str] = field(default_factory=list)
    descriptions: dict[str, list[str]] = field(default_factory=dict)
    config_sha256: str = ""
    format: int = FORMAT

    def sealed(self) -> AdapterConfig:
        """The same with its checksum."""
        return replace(self, config_sha256=self._sha256())

    def to_json(self) -> dict[str, Any]:
        """Content of the file; without `descriptions` where there are none, as before format 4."""
        return {name: value for name, value in asdict(self).items() if value or name != "descriptions"}

    @property
    def unchanged(self) -> bool:
        """Whether the checksum fits; True for formats that have none."""
        return (self.format < FORMAT and not self.config_sha256) or self.config_sha256 == self._sha256()

    def _sha256(self) -> str:
        return content_sha256({name: value for name, value in self.to_json().items() if name != "config_sha256"})


def save_adapter(
    folder: Path,
    name: str,
    method: Method,
    backbone: Backbone,
    templates: Sequence[str],
    descriptions: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Write both files; if anything goes wrong before they are complete, the previous ones stay.

    Raises:
        AdapterError: a tensor is complex or not finite.
        VlmadaptError: the files cannot be written.
    """
    tensors = method.state_dict()
    _check_numbers(tensors, f"the adapter of '{name}'")
    plugin = registry.find(registry.METHODS, name)
    weights = as_safetensors(tensors)
    config = AdapterConfig(
        method=name,
        options=asdict(method.config),
        distribution={"name": plugin.distribution, "version": plugin.version},
        api_version=registry.API_VERSION,
        backbone={"name": backbone.name, **backbone.identity()},
        templates=list(templates),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        classes=[] if method.answers_unseen else list(method.trained_classes),
        descriptions={name: list(texts) for name, texts in (descriptions or {}).items()},
        format=DESCRIBED_FORMAT if descriptions else FORMAT,
    ).sealed()
    with replacing(folder / WEIGHTS, folder / CONFIG) as (weights_file, config_file):
        weights_file.write_bytes(weights)
        config_file.write_text(as_json(config.to_json()), encoding="utf-8")


def read_config(folder: Path) -> AdapterConfig:
    """Read `adapter_config.json`.

    Raises:
        AdapterError: the folder holds no adapter, or one of another format.
    """
    path = folder / CONFIG
    if not path.exists():
        raise AdapterError(f"'{folder}' holds no adapter ({CONFIG} is missing).")
    try:
        content = read_json(path)
        if content.get("format") not in READABLE_FORMATS:
            raise AdapterError(
                f"'{path}' has format {content.get('format')}; this version reads up to {max(READABLE_FORMATS)}."
            )
        check_shape(content, ConfigFile)
        return AdapterConfig(**content)
    except (DataError, ValueError, TypeError, AttributeError) as error:
        cause = first_line(error).rstrip(".")
        raise AdapterError(f"'{path}' is not an adapter's configuration: {cause}.") from error


def load_adapter(
    folder: Path, backbone: Backbone, classes: Sequence[str] = (), options: Mapping[str, Any] | None = None
) -> tuple[Method, AdapterConfig]:
    """Rebuild a saved method on its backbone.

    Args:
        folder: folder with the two files.
        backbone: backbone it was trained on.
        classes: names of the classes it was trained on, for adapters of format 1, which do not have them.
        options: options of the method that differ from training.

    Raises:
        AdapterError: it was made for another backbone, by a method that is not installed, by a newer plugin API, or its
            tensors do not fit; the message says what differs.
    """
    config = read_config(folder)
    if config.api_version > registry.API_VERSION:
        raise AdapterError(
            f"'{folder}' was saved with plugin API {config.api_version}, this version has {registry.API_VERSION}; "
            "install a newer vlmadapt."
        )
    made_by = config.distribution["name"], config.distribution["version"]
    if missing := registry.missing(config.method, *made_by):
        raise AdapterError(f"'{folder}' was made by {missing}")
    if wrong := differences(config.backbone, backbone.identity()):
        raise AdapterError(
            f"'{folder}' was made for the backbone '{config.backbone['name']}'; '{backbone.name}' has other "
            f"{', other '.join(wrong)}."
        )
    config, tensors = _read_both(folder, config)
    task = Task(tuple(config.classes or classes), tuple(config.templates))
    try:
        method = build_method(config.method, backbone, task, {**config.options, **(options or {})})
    except (VlmadaptError, ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        maker = f"method '{config.method}' of the distribution '{' '.join(made_by)}'"
        raise AdapterError(f"'{folder}' was made by {maker}: {first_line(error)}") from error
    _load_strictly(method, tensors, folder)
    return method.eval(), config


def _read_both(folder: Path, config: AdapterConfig) -> tuple[AdapterConfig, dict[str, Tensor]]:
    """Configuration and tensors that belong together; read again if somebody replaced them in between.

    Raises:
        AdapterError: they do not belong together, or are damaged.
    """
    try:
        return config, _read_weights(folder, config)
    except AdapterError:
        again = read_config(folder)
        if again == config:
            raise
        return again, _read_weights(folder, again)


def _read_weights(folder: Path, config: AdapterConfig) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    path = folder / WEIGHTS
    if not path.is_file():
        raise AdapterError(f"'{folder}' holds no {WEIGHTS}.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != config.weights_sha256:
        raise AdapterError(f"'{path}' is not the file that {CONFIG} describes; the adapter is damaged or mixed up.")
    if not config.unchanged:
        raise AdapterError(f"'{folder / CONFIG}' was changed after it was saved; the adapter is damaged.")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise AdapterError(f"'{path}' cannot be read: {error}.") from error
    _check_numbers(tensors, f"'{path}'")
    return tensors


def _check_numbers(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse numbers that no training gives.

    Raises:
        AdapterError: a tensor is complex or not finite.
    """
    for name, tensor in tensors.items():
        if tensor.is_complex() or not tensor.isfinite().all():
            what = "complex numbers" if tensor.is_complex() else "numbers that are not finite"
            raise AdapterError(f"{where} has {what} in the tensor '{name}'; it cannot be used.")


def _load_strictly(method: Method, tensors: dict[str, Tensor], folder: Path) -> None:
    """Load a state; the error names each tensor that does not fit.

    The method decides what fits: some size their tensors by the state (a cache of support images).
    """
    try:
        method.load_state_dict(tensors)
    except RuntimeError as error:
        expected = method.state_dict()
        wrong = [f"{name} is missing" for name in expected.keys() - tensors.keys()]
        wrong += [f"{name} is not part of this method" for name in tensors.keys() - expected.keys()]
        wrong += [
            f"{name} is {tuple(tensors[name].shape)} in the file and {tuple(expected[name].shape)} here"
            for name in expected.keys() & tensors.keys()
            if tensors[name].shape != expected[name].shape
        ]
        what = "; ".join(sorted(wrong)[:5]) or str(error).splitlines()[-1].strip()
        raise AdapterError(f"the tensors of '{folder}' do not fit: {what}.") from error
