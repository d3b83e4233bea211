"""The state a run goes on from: one file with the tensors, and the numbers beside them in its header."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlmadapt.core.method import Method
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import write_tensors


@dataclass
class Progress:
    """How far training has come.

    Attributes:
        epoch: current epoch from 0; equals the number of epochs at the end.
        step: steps done in it.
        sums: running sums of this epoch's numbers.
        history: the numbers of the epochs done.
        seconds: spent in steps so far.
        steps: steps done in all.
    """

    epoch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    steps: int = 0

    def summary(self, batch: int) -> str:
        """Loss and accuracy of the epoch so far, and images per second at batches of `batch`."""
        images = max(self.sums.get("images", 0.0), 1.0)
        rate = batch * self.steps / max(self.seconds, 1e-9)
        loss, accuracy = self.sums.get("loss", 0.0) / images, self.sums.get("correct", 0.0) / images
        return f"epoch {self.epoch + 1}  loss {loss:.3f}  acc {100 * accuracy:.1f}%  {rate:.0f} img/s"


def save_state(
    path: Path, method: Method, optimizer: torch.optim.Optimizer, scaler: dict[str, float], progress: Progress
) -> None:
    """Write everything a run needs to go on, atomically."""
    tensors: dict[str, Tensor] = {f"method.{name}": value for name, value in method.state_dict().items()}
    optimizer_state = optimizer.state_dict()
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in optimizer_state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                numbers.setdefault(str(index), {})[name] = value
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    header = {
        "progress": vars(progress),
        "scaler": scaler,
        "optimizer": {"numbers": numbers, "groups": optimizer_state["param_groups"]},
    }
    write_tensors(path, tensors, {"state": json.dumps(header)})


def load_state(path: Path, method: Method, optimizer: torch.optim.Optimizer) -> tuple[Progress, dict[str, float]]:
    """Restore method, optimiser and random state.

    Returns:
        The progress and the gradient scaler's state.

    Raises:
        VlmadaptError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise VlmadaptError(f"the state '{path}' cannot be read: {error}.") from error
    method.load_state_dict(_under("method.", tensors))
    state: dict[int, dict[str, Any]] = {int(i): dict(v) for i, v in header["optimizer"]["numbers"].items()}
    for name, value in _under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": header["optimizer"]["groups"]})
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return Progress(**header["progress"]), header["scaler"]


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
