"""Saved adapters: the trained tensors, and a config with everything needed to verify that they fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vlmadapt import registry
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.backbone.identity import differences
from vlmadapt.core.build import build_method
from vlmadapt.core.method import Method, Task
from vlmadapt.errors import AdapterError, PluginError, SettingError
from vlmadapt.files import as_json, as_safetensors, replacing

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FORMAT = 2
READABLE_FORMATS = (1, 2)
"""Formats that are read. Format 1 has no class list, and only the weights of the backbone's identity."""

_KINDS = {
    "method": str,
    "options": dict,
    "distribution": dict,
    "api_version": int,
    "backbone": dict,
    "templates": list,
    "weights_sha256": str,
    "classes": list,
}


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
        classes: names of the classes it was trained on, in label order; empty if it can score others.
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
    format: int = FORMAT


def save_adapter(folder: Path, name: str, method: Method, backbone: Backbone, templates: Sequence[str]) -> None:
    """Write both files; on failure the previous ones stay."""
    plugin = registry.find(registry.METHODS, name)
    weights = as_safetensors(method.state_dict())
    config = AdapterConfig(
        method=name,
        options=asdict(method.config),
        distribution={"name": plugin.distribution, "version": plugin.version},
        api_version=registry.API_VERSION,
        backbone={"name": backbone.name, **backbone.identity()},
        templates=list(templates),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        classes=[] if method.answers_unseen else list(method.trained_classes),
    )
    with replacing(folder / WEIGHTS, folder / CONFIG) as (weights_file, config_file):
        weights_file.write_bytes(weights)
        config_file.write_text(as_json(asdict(config)), encoding="utf-8")


def read_config(folder: Path) -> AdapterConfig:
    """Read `adapter_config.json`.

    Raises:
        AdapterError: the folder holds no adapter, or one of another format.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise AdapterError(f"'{folder}' holds no adapter ({CONFIG} is missing).")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.get("format") not in READABLE_FORMATS:
            raise AdapterError(f"'{path}' has format {content.get('format')}; this version reads up to {FORMAT}.")
        config = AdapterConfig(**content)
        for name, kind in _KINDS.items():
            if not isinstance(getattr(config, name), kind):
                raise TypeError(f"'{name}' is no {kind.__name__}")
        return config
    except (ValueError, TypeError, AttributeError) as error:
        raise AdapterError(f"'{path}' is not an adapter's configuration: {error}.") from error


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
    tensors = _read_weights(folder, config)
    task = Task(tuple(config.classes or classes), tuple(config.templates))
    try:
        method = build_method(config.method, backbone, task, {**config.options, **(options or {})})
    except (PluginError, SettingError) as error:
        raise AdapterError(
            f"'{folder}' was made by method '{config.method}' of the distribution '{' '.join(made_by)}': {error}"
        ) from error
    _load_strictly(method, tensors, folder)
    return method.eval(), config


def _read_weights(folder: Path, config: AdapterConfig) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / WEIGHTS
    if not path.is_file():
        raise AdapterError(f"'{folder}' holds no {WEIGHTS}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != config.weights_sha256:
        raise AdapterError(f"'{path}' is not the file that {CONFIG} describes; the adapter is damaged or mixed up.")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise AdapterError(f"'{path}' cannot be read: {error}.") from error


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
