"""A run folder: config, environment, data, metrics, adapter and the state to go on from."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

from vlmadapt import registry
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import write_json, write_text
from vlmadapt.workflows.settings import FitSettings

CONFIG, ENVIRONMENT, DATA, METRICS, RESULT = (
    "config.yaml",
    "environment.json",
    "data.json",
    "metrics.jsonl",
    "result.json",
)
ADAPTER, STATE = "adapter", "state.safetensors"
LIBRARIES = ("vlmadapt", "torch", "torchvision", "open_clip_torch", "timm", "accelerate", "safetensors", "numpy")


class Run:
    """Where a run keeps its files."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.adapter = folder / ADAPTER
        self.state = folder / STATE

    @classmethod
    def create(cls, settings: FitSettings, manifest: dict[str, Any]) -> Run:
        """Start a run folder.

        Raises:
            VlmadaptError: the folder holds a run already.
        """
        run = cls(Path(settings.out or "run"))
        if (run.folder / CONFIG).exists():
            raise VlmadaptError(
                f"'{run.folder}' holds a run already; continue it with `vlmadapt fit --resume {run.folder}`, choose "
                "another folder with --out, or delete it."
            )
        write_text(run.folder / CONFIG, yaml.safe_dump(settings.to_config(), sort_keys=False))
        write_json(run.folder / ENVIRONMENT, environment(settings.method))
        write_json(run.folder / DATA, manifest)
        return run

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
        """The resolved settings it was started with."""
        return FitSettings.from_config(yaml.safe_load((self.folder / CONFIG).read_text()))

    def manifest(self) -> dict[str, Any]:
        """Which images of which classes it trains on and tests."""
        return json.loads((self.folder / DATA).read_text())

    def write_metrics(self, epochs: list[dict[str, Any]]) -> None:
        """One JSON line for each epoch so far."""
        write_text(self.folder / METRICS, "".join(json.dumps(epoch) + "\n" for epoch in epochs))

    def write_result(self, result: dict[str, Any]) -> None:
        """The final numbers."""
        write_json(self.folder / RESULT, result)

    def result(self) -> dict[str, Any] | None:
        """The final numbers, None while there are none."""
        path = self.folder / RESULT
        return json.loads(path.read_text()) if path.is_file() else None


def environment(method: str) -> dict[str, Any]:
    """Versions and machine, for whoever wants to repeat the run."""
    plugin = registry.find(registry.METHODS, method)
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "gpu": gpu,
        "threads": torch.get_num_threads(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "method": {"name": plugin.name, "distribution": plugin.distribution, "version": plugin.version},
    }
