"""Run folder: config, environment, data manifest, metrics, adapter and training state."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar

import yaml

from vlmadapt import registry
from vlmadapt.errors import PluginError, VlmadaptError
from vlmadapt.files import write_json, write_text
from vlmadapt.runs.settings import FitSettings
from vlmadapt.text import first_line

CONFIG, ENVIRONMENT, DATA, METRICS, ANSWERS, RESULT = (
    "config.yaml",
    "environment.json",
    "data.json",
    "metrics.jsonl",
    "answers.json",
    "result.json",
)
ADAPTER, STATE = "adapter", "state.safetensors"
LIBRARIES = ("vlmadapt", "torch", "torchvision", "open_clip_torch", "timm", "accelerate", "safetensors", "numpy")

T = TypeVar("T")


class Run:
    """The files of a run."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.adapter = folder / ADAPTER
        self.state = folder / STATE

    @classmethod
    def new(cls, folder: Path) -> Run:
        """A run to be started in an empty or new folder.

        Raises:
            VlmadaptError: the folder holds a run already.
        """
        if (folder / CONFIG).exists():
            raise VlmadaptError(
                f"'{folder}' holds a run already; continue it with `vlmadapt fit --resume {folder}`, choose another "
                "folder with --out, or delete it."
            )
        return cls(folder)

    def start(self, settings: FitSettings, manifest: dict[str, Any]) -> None:
        """Write the files known before training; the config comes last, because it makes a folder a run."""
        write_json(self.folder / ENVIRONMENT, environment(settings.method))
        write_json(self.folder / DATA, manifest)
        write_text(self.folder / CONFIG, yaml.safe_dump(settings.to_config(), sort_keys=False))

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run.

        Raises:
            VlmadaptError: the folder does not exist or holds no run.
        """
        if not (folder / CONFIG).is_file():
            what = "holds no run" if folder.is_dir() else "does not exist"
            raise VlmadaptError(f"'{folder}' {what}; `vlmadapt fit` makes run folders (by default below runs/).")
        return cls(folder)

    def settings(self) -> FitSettings:
        """The resolved settings of the run."""
        return self._read(CONFIG, lambda text: FitSettings.from_config(yaml.safe_load(text)))

    def check_method(self) -> None:
        """Refuse to continue if the distribution of the run's method is not installed.

        Raises:
            PluginError: the message names the distribution.
        """
        made_by = self._read(ENVIRONMENT, _parse_maker)
        if missing := registry.missing(*made_by):
            raise PluginError(f"'{self.folder}' was made by {missing}")

    def manifest(self) -> dict[str, Any]:
        """Manifest of the images and classes the run trains on and tests."""
        return self._read(DATA, _parse_manifest)

    def write_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """Write one JSON line for each finished epoch."""
        write_text(self.folder / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))

    def write_answers(self, groups: list[dict[str, Any]]) -> None:
        """Write the predicted class index and its probability for the images of each group, in `manifest` order."""
        write_text(self.folder / ANSWERS, json.dumps(groups, separators=(",", ":")) + "\n")

    def answers(self) -> list[dict[str, Any]] | None:
        """The groups that `write_answers` wrote, None if there are none.

        Raises:
            VlmadaptError: the file is damaged.
        """
        return self._read(ANSWERS, _parse_answers) if (self.folder / ANSWERS).is_file() else None

    def write_result(self, result: dict[str, Any]) -> None:
        """The final numbers."""
        write_json(self.folder / RESULT, result)

    def result(self) -> dict[str, Any] | None:
        """The final numbers, None before the run is finished.

        Raises:
            VlmadaptError: the file is damaged.
        """
        return self._read(RESULT, _parse_result) if (self.folder / RESULT).is_file() else None

    def environment(self) -> dict[str, Any]:
        """Versions and machine, as `environment` describes them.

        Raises:
            VlmadaptError: the file is missing or damaged.
        """
        return self._read(ENVIRONMENT, _parse_environment)

    def metrics(self) -> list[dict[str, Any]]:
        """The epochs that `write_metrics` wrote; empty if there are none.

        Raises:
            VlmadaptError: the file is damaged.
        """
        return self._read(METRICS, _parse_metrics) if (self.folder / METRICS).is_file() else []

    def _read(self, name: str, parse: Callable[[str], T]) -> T:
        try:
            return parse((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise VlmadaptError(
                f"'{self.folder / name}' is damaged ({first_line(error)}); the run cannot be used."
            ) from error


def _parse_manifest(text: str) -> dict[str, Any]:
    content = _object(text, {"sha256": str})
    if not all(isinstance(group["examples"], list) and group["classes"] for group in content.get("test", ())):
        raise ValueError("a tested group lists no images")
    return content


def _parse_result(text: str) -> dict[str, Any]:
    number = (int, float)
    content = _object(
        text,
        {
            "accuracy": dict,
            "trainable_parameters": int,
            "steps": int,
            "seconds_per_step": (*number, NoneType),
            "test_images_per_second": number,
            "peak_memory_bytes": number,
            "data_sha256": str,
        },
    )
    if not content["accuracy"] or not all(isinstance(value, number) for value in content["accuracy"].values()):
        raise ValueError("its accuracies are no numbers")
    return content


def _parse_environment(text: str) -> dict[str, Any]:
    return _object(text, {"python": str, "gpu": (str, NoneType), "threads": int, "libraries": dict})


def _parse_maker(text: str) -> tuple[str, str, str]:
    """Name, distribution and version of the method."""
    method = _object(text, {"method": dict})["method"]
    return method["name"], method["distribution"], method["version"]


def _parse_answers(text: str) -> list[dict[str, Any]]:
    content = json.loads(text)
    if not isinstance(content, list) or not all(isinstance(group, dict) and "name" in group for group in content):
        raise ValueError("it lists no groups")
    return content


def _parse_metrics(text: str) -> list[dict[str, Any]]:
    return [_object(line, {"epoch": int}) for line in text.splitlines()]


def _object(text: str, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """A JSON object with at least some values, of some types.

    Raises:
        ValueError: it is not.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    for name, kind in kinds.items():
        if name not in content or not isinstance(content[name], kind):
            raise ValueError(f"'{name}' is missing or of the wrong type")
    return content


def environment(method: str) -> dict[str, Any]:
    """Versions, machine and provider of the method, needed to repeat the run."""
    plugin = registry.find(registry.METHODS, method)
    provider = {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version}
    return {**machine(), "method": provider}


def machine() -> dict[str, Any]:
    """Versions of Python and of the libraries that results depend on, platform, GPU, CUDA and threads."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "gpu": gpu,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "libraries": {name: version(name) for name in LIBRARIES},
    }
