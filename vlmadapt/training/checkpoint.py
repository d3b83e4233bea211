"""Checkpoints: one safetensors file with the state of training, its plain numbers in the header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vlmadapt.core.method import Method
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import content_sha256, write_tensors
from vlmadapt.runs.identity import identity_differences
from vlmadapt.shapes import check_shape
from vlmadapt.text import first_few, first_line
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.trainer import StepTrainer

FORMAT = 2
"""Format 1 has neither identity nor checksum."""


class Header(TypedDict):
    """Plain numbers in the header of a state.

    Attributes:
        format: version of the file.
        identity: settings and hashes that decide the numbers of the run, see `run_identity`.
        progress: position and logged numbers, see `TrainingProgress`.
        loss_scale: see `LossScale.state`.
        switched_on: names of the parameters that are trained now; states of earlier versions do not have it.
        sha256: hash of all of the above and of the tensors.
    """

    format: int
    identity: dict[str, Any]
    progress: Progress
    loss_scale: dict[str, float]
    switched_on: NotRequired[list[str]]
    sha256: str


class Progress(TypedDict):
    """Fields of `TrainingProgress`, without the tensors of the best epoch, which are stored as tensors."""

    epoch: int
    step: int
    sums: dict[str, float]
    history: list[dict[str, Any]]
    seconds: float
    steps: int
    trained: NotRequired[list[str]]


def save_state(
    path: Path,
    method: Method,
    trainer: StepTrainer,
    progress: TrainingProgress,
    identity: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that training continues from, atomically.

    Args:
        path: file to be written.
        method: with its trained tensors.
        trainer: with optimiser and loss scale.
        progress: position.
        identity: what the numbers of the run depend on, see `run_identity`.
    """
    tensors: dict[str, Tensor] = {f"method.{name}": value for name, value in method.state_dict().items()}
    for index, values in trainer.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in values.items()}
    tensors |= {f"best.{name}": value for name, value in progress.best.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["random.cuda"] = torch.cuda.get_rng_state()
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = {
        "format": FORMAT,
        "identity": dict(identity or {}),
        "progress": {name: value for name, value in vars(progress).items() if name != "best"},
        "loss_scale": trainer.scale.state(),
        "switched_on": [name for name, parameter in method.named_parameters() if parameter.requires_grad],
    }
    write_tensors(path, tensors, {"state": json.dumps({**header, "sha256": _sha256(header, tensors)})})


def _switch(method: Method, on: Sequence[str] | None) -> None:
    """Switch parameters on and off as they were: a method may do so at the start of an epoch that has begun."""
    for name, parameter in method.named_parameters():
        parameter.requires_grad_(parameter.requires_grad if on is None else name in on)


def load_state(
    path: Path, method: Method, trainer: StepTrainer, identity: Mapping[str, Any] | None = None
) -> TrainingProgress:
    """Restore method, optimiser, loss scale and random state.

    Returns:
        The progress.

    Raises:
        VlmadaptError: the file cannot be read, is damaged, is of an older version, or belongs to another run; nothing
            is restored then.
    """
    header, tensors = _read(path)
    if different := identity_differences(header["identity"], identity or {}):
        raise VlmadaptError(f"the state '{path}' is of another run: {first_few(different, 3)}; it cannot be resumed.")
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = value
    try:
        method.load_state_dict(_under("method.", tensors))
        _switch(method, header.get("switched_on"))
        trainer.load(state, header["loss_scale"])
    except (RuntimeError, ValueError, KeyError) as error:  # a plugin has changed since
        raise VlmadaptError(
            f"the state '{path}' does not fit the method: {str(error).splitlines()[-1].strip()}."
        ) from error
    torch.set_rng_state(tensors["random.cpu"])
    if "random.cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random.cuda"])
    return TrainingProgress(**header["progress"], best=_under("best.", tensors))


def _read(path: Path) -> tuple[Header, dict[str, Tensor]]:
    """Header and tensors of a state that is complete and unchanged.

    Raises:
        VlmadaptError: it is not.
    """
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})["state"])
            # Tensors are mapped onto the file: without a copy, writing to it would change the optimiser's state.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a mapping
        version = content.get("format", 1)
        if version != FORMAT:
            raise VlmadaptError(
                f"the state '{path}' has format {version}, this version resumes format {FORMAT}; start the run again "
                "in another folder."
            )
        check_shape(content, Header)
    except (SafetensorError, OSError, LookupError, ValueError, AttributeError, RecursionError) as error:
        raise VlmadaptError(f"the state '{path}' cannot be read: {first_line(error)}; it is damaged.") from error
    if content.pop("sha256") != _sha256(content, tensors):
        raise VlmadaptError(f"the state '{path}' is damaged: its checksum is another one.")
    return content, tensors


def _sha256(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash of a header and of names, types, shapes and values of tensors."""
    digest = hashlib.sha256(content_sha256(header).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
