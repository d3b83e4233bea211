"""What all tests share."""

from __future__ import annotations

import pytest
import torch

from tests.world import World
from vlmadapt import FitResult

# Two test processes on two cores: more threads would only wait for each other.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def base_to_novel(world: World) -> FitResult:
    """A finished run; nothing may change it."""
    return world.fit(world.root / "base-to-novel", protocol="base-to-novel")
