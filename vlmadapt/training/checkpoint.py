"""Checkpoints: one safetensors file with the state of training, its plain numbers in the header."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlmadapt.core.method import Method
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import write_tensors
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.trainer import StepTrainer


def save_state(path: Path, method: Method, trainer: StepTrainer, progress: TrainingProgress) -> None:
    """Write everything that training continues from, atomically."""
    tensors: dict[str, Tensor] = {f"method.{name}": value for name, value in method.state_dict().items()}
    for index, values in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    header = {"progress": vars(progress), "loss_scale": trainer.scale.state()}
    write_tensors(path, tensors, {"state": json.dumps(header)})


def load_state(path: Path, method: Method, trainer: StepTrainer) -> TrainingProgress:
    """Restore method, optimiser, loss scale and random state.

    Returns:
        The progress.

    Raises:
        VlmadaptError: the file cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            # Tensors are memory-mapped: without a copy, writing to the file would change the optimiser's state.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise VlmadaptError(f"the state '{path}' cannot be read: {error}.") from error
    method.load_state_dict(_under("method.", tensors))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    trainer.load(state, header["loss_scale"])
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return TrainingProgress(**header["progress"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
