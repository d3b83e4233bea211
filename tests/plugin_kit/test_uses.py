"""What `plugins check` observes a method to use."""

from __future__ import annotations

import json

import pytest

from tests.cli.command import call
from vlmadapt.testing import MethodUnderTest
from vlmadapt.testing.uses import observed_uses

USES = {
    "clip": {"overrides": ["inference router"]},
    "kgcoop": {
        "text tower": ["token injection"],
        "prompts": ["its own prompt template"],
        "overrides": ["losses"],
    },
    "mmrl++": {  # all of it MMRL's
        "text tower": ["token injection"],
        "image tower": ["token injection", "projection heads"],
        "overrides": ["losses", "inference router"],
    },
    "clip-lora": {"text tower": ["block adapters"], "image tower": ["block adapters"]},
    "linear-probe": {
        "overrides": ["losses", "inference router", "prepare"],
        "reads before or after training": ["support images", "validation images"],
    },
    "tip-adapter": {
        "overrides": ["losses", "inference router", "prepare"],
        "reads before or after training": ["support images", "validation images"],
    },
}


@pytest.mark.parametrize("name", USES)
def test_hook_points_images_and_overrides_are_observed(name: str) -> None:
    assert observed_uses(MethodUnderTest(name)) == USES[name]


@pytest.mark.slow
def test_check_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    said = call(capsys, "plugins", "check", "kgcoop", "--quick")
    assert "text tower: token injection\n" in said.out
    said = call(capsys, "plugins", "check", "kgcoop", "--quick", "--json")
    assert json.loads(said.out.splitlines()[-1])["uses"] == USES["kgcoop"]
