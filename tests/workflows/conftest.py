from __future__ import annotations

import pytest

from tests.workflows.runs import World
from vlmadapt import FitResult


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def base_to_novel(world: World) -> FitResult:
    """A finished run; nothing may change it."""
    return world.fit(world.root / "base-to-novel", protocol="base-to-novel")
