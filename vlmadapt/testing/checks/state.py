"""Check that the saved state is complete."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from vlmadapt.files import write_tensors
from vlmadapt.testing.checks.compare import same
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def saves_and_loads(tested: MethodUnderTest) -> None:
    """Its state, saved and loaded strictly into a new method, gives the same scores."""
    trained = tested.trained
    state = trained.method.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise CheckFailed(f"'{name}' of its state is {type(value).__name__}, not a tensor.")
    fresh = tested.build(seed=1)
    try:
        fresh.load_state_dict(_written_and_read(state))
    except RuntimeError as error:
        raise CheckFailed(f"its own state does not fit it: {' '.join(str(error).split())[:300]}") from error
    same("scores before and after saving", tested.scores(trained), tested.scores(tested.classifier(fresh)), 1e-5)


def _written_and_read(state: dict[str, Tensor]) -> dict[str, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.safetensors"
        write_tensors(path, state)
        return load_file(path)
