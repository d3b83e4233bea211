"""Run folder: config, environment, data manifest, metrics, adapter and training state."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from vlmadapt import registry
from vlmadapt.errors import PluginError, SettingError, VlmadaptError
from vlmadapt.files import as_yaml, content_sha256, parse_yaml, read_text, write_json, write_text
from vlmadapt.runs.places import absolute, find_places, place_notes, relative_places
from vlmadapt.runs.settings import FitSettings
from vlmadapt.runs.shapes import CalibrationFile, DataFile, EnvironmentFile, Epoch, GroupAnswers, ResultFile, check_data
from vlmadapt.shapes import check_shape
from vlmadapt.text import first_line

CONFIG, ENVIRONMENT, DATA, METRICS, ANSWERS, CALIBRATION, RESULT = (
    "config.yaml",
    "environment.json",
    "data.json",
    "metrics.jsonl",
    "answers.json",
    "calibration.json",
    "result.json",
)
SEALED = (CONFIG, ENVIRONMENT, DATA, METRICS, ANSWERS, CALIBRATION)
"""Files whose checksums `result.json` holds."""
FORMAT, READABLE_FORMATS = 2, (1, 2)
"""Of `result.json`; format 1 has no checksums."""
CHECKSUM = "sha256"
ADAPTER, STATE = "adapter", "state.safetensors"
LIBRARIES = ("vlmadapt", "torch", "torchvision", "open_clip_torch", "timm", "accelerate", "safetensors", "numpy")

T = TypeVar("T")


class Run:
    """Where a run keeps its files.

    A finished run's `result.json` has a checksum, and holds those of its other files, so that none of them can be
    changed unnoticed.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.adapter = folder / ADAPTER
        self.state = folder / STATE

    @classmethod
    def new(cls, folder: Path) -> Run:
        """A run to be started; one that ended before it saved anything is replaced.

        Raises:
            VlmadaptError: the folder holds a run already.
        """
        run = cls(folder)
        saved = (run.state, run.adapter, folder / RESULT)
        if (folder / CONFIG).exists() and any(path.exists() for path in saved):
            raise VlmadaptError(
                f"'{folder}' holds a run already; continue it with `vlmadapt fit --resume {folder}`, choose another "
                "folder with --out, or delete it."
            )
        return run

    def start(self, settings: FitSettings, manifest: dict[str, Any]) -> None:
        """Write what is known before training; the config comes last, for it is what makes a folder a run."""
        config = absolute(settings.to_config())
        paths = relative_places(FitSettings.from_config(config), self.folder)
        write_json(self.folder / ENVIRONMENT, {**environment(settings.method), "paths": paths})
        write_json(self.folder / DATA, manifest)
        write_text(self.folder / CONFIG, as_yaml(config))

    def restart(self, settings: FitSettings) -> None:
        """Change the settings of a run; its result, which is that of the old ones, is dropped first."""
        config = absolute(settings.to_config())
        if config == self._read(CONFIG, parse_yaml):
            return
        described = self._read(ENVIRONMENT, _parse_environment)
        (self.folder / RESULT).unlink(missing_ok=True)
        paths = relative_places(FitSettings.from_config(config), self.folder)
        write_json(self.folder / ENVIRONMENT, {**described, "paths": paths})
        write_text(self.folder / CONFIG, as_yaml(config))

    @classmethod
    def open(cls, folder: Path | str) -> Run:
        """An existing run.

        Raises:
            VlmadaptError: the folder does not exist or holds no run.
        """
        folder = Path(folder)
        if not (folder / CONFIG).is_file():
            what = "holds no run" if folder.is_dir() else "does not exist"
            raise VlmadaptError(f"'{folder}' {what}; `vlmadapt fit` makes run folders (by default below runs/).")
        return cls(folder)

    def settings(self) -> FitSettings:
        """The resolved settings it was started with; paths that no longer exist are looked for next to the run.

        Raises:
            VlmadaptError: the file is damaged, or a setting is invalid.
        """
        return find_places(self._recorded_settings(), self.folder, self._relative_places())

    def place_notes(self) -> tuple[str, ...]:
        """A sentence for each path that was found in another place than it was recorded."""
        return place_notes(self._recorded_settings(), self.settings())

    def check_method(self) -> None:
        """Refuse to continue if the distribution of the run's method is not installed.

        Raises:
            PluginError: the message names the distribution.
        """
        made_by = self.environment().get("method")
        if made_by is None:
            raise VlmadaptError(
                f"'{self.folder / ENVIRONMENT}' does not name the run's method; the run cannot be used."
            )
        if gone := registry.missing(made_by["name"], made_by["distribution"], made_by["version"]):
            raise PluginError(f"'{self.folder}' was made by {gone}")

    def manifest(self) -> dict[str, Any]:
        """Which images of which classes it trains on and tests, see `DataFile`.

        Raises:
            VlmadaptError: the file is missing or damaged.
        """
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
        return self._read(ANSWERS, _parse_answers) if (self.folder / ANSWERS).exists() else None

    def write_calibration(self, content: dict[str, Any] | None) -> None:
        """Write temperature and thresholds; None removes those of an earlier result."""
        if content is None:
            (self.folder / CALIBRATION).unlink(missing_ok=True)
        else:
            write_json(self.folder / CALIBRATION, content)

    def calibration(self) -> dict[str, Any] | None:
        """What `write_calibration` wrote, None if there is none.

        Raises:
            VlmadaptError: the file is damaged.
        """
        return self._read(CALIBRATION, _parse_calibration) if (self.folder / CALIBRATION).exists() else None

    def write_result(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write the final numbers, with checksums of all files of the run.

        Returns:
            What was written.
        """
        sums = {name: _sha256(self.folder / name) for name in SEALED if (self.folder / name).is_file()}
        content = {"format": FORMAT, **result, "files": sums}
        content = {**content, CHECKSUM: content_sha256(content)}
        write_json(self.folder / RESULT, content)
        return content

    def result(self) -> dict[str, Any] | None:
        """The final numbers, None before the run is finished.

        Raises:
            VlmadaptError: the file is damaged.
        """
        content = self._result()
        return content and {key: value for key, value in content.items() if key not in ("format", "files", CHECKSUM)}

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
        return self._read(METRICS, _parse_metrics) if (self.folder / METRICS).exists() else []

    def _recorded_settings(self) -> FitSettings:
        return self._read(CONFIG, lambda text: FitSettings.from_config(parse_yaml(text)))

    def _relative_places(self) -> Mapping[str, str]:
        if not (self.folder / ENVIRONMENT).exists():
            return {}
        places: Mapping[str, str] = self.environment().get("paths", {})
        return places

    def _result(self) -> dict[str, Any] | None:
        path = self.folder / RESULT
        return _parsed(path, read_text(path), _parse_result) if path.exists() else None

    def _read(self, name: str, parse: Callable[[str], T]) -> T:
        path = self.folder / name
        text = read_text(path)
        try:
            sealed = (self._result() or {}).get("files", {})
        except VlmadaptError:  # `result` says so when it is asked for
            sealed = {}
        if name in sealed and sealed[name] != _sha256(path):
            raise VlmadaptError(f"'{path}' is damaged (it was changed after the run ended); the run cannot be used.")
        return _parsed(path, text, parse)


def _parsed(path: Path, text: str, parse: Callable[[str], T]) -> T:
    """The content of a file.

    Raises:
        VlmadaptError: the file is damaged.
    """
    try:
        return parse(text)
    except (ValueError, KeyError, TypeError, RecursionError, SettingError) as error:
        raise VlmadaptError(
            f"'{path}' is damaged ({first_line(error).rstrip('.')}); the run cannot be used."
        ) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _parse_manifest(text: str) -> dict[str, Any]:
    content = _shaped(text, DataFile)
    check_data(content)
    return content


def _parse_result(text: str) -> dict[str, Any]:
    content = _shaped(text, ResultFile)
    if not content["accuracy"] and content.get("groups") != []:
        raise ValueError("it has no accuracies")
    if content.get("format", 1) not in READABLE_FORMATS:
        raise ValueError(f"it has format {content['format']}; this version reads up to {FORMAT}")
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    if "format" in content and content.get(CHECKSUM) != content_sha256(rest):
        raise ValueError("its checksum is another one")
    return content


def _parse_environment(text: str) -> dict[str, Any]:
    return _shaped(text, EnvironmentFile)


def _parse_answers(text: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = _shaped(text, list[GroupAnswers])
    return content


def _parse_calibration(text: str) -> dict[str, Any]:
    content = _shaped(text, CalibrationFile)
    if not 0 < content["temperature"] < float("inf"):
        raise ValueError(f"its temperature is {content['temperature']}")
    return content


def _parse_metrics(text: str) -> list[dict[str, Any]]:
    return [_shaped(line, Epoch) for line in text.splitlines()]


def _shaped(text: str, shape: Any) -> Any:
    """A JSON value of a shape.

    Raises:
        ValueError: it has another one.
    """
    content = json.loads(text)
    check_shape(content, shape)
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
