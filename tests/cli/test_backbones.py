"""`vlmadapt backbones`: its table, its JSON, and the table of the documentation."""

from __future__ import annotations

import json

import pytest

from tests.cli.command import ROOT, call

Capture = pytest.CaptureFixture[str]
NAMES = ("RN50x4", "EVA02-B-16")


def test_backbones_prints_a_row_for_each_architecture_and_how_many_open(capsys: Capture) -> None:
    said = call(capsys, "backbones", *NAMES)
    assert said.code == 0
    assert all(text in said.out for text in ("EVA02-B-16", "Eva, 12 x 768", "ModifiedResNet, feature maps"))
    assert "Of 3 architectures, 1 open in both towers" in said.out
    assert "the image tower opens in 1, the text tower in 3. In 2 the image tower has feature maps" in said.out
    assert "3 of 3 thus work with every method that their towers have tokens for" in said.out


def test_backbones_as_json_has_all_that_is_known(capsys: Capture) -> None:
    found = {info["name"]: info for info in json.loads(call(capsys, "backbones", *NAMES, "--json").out)}
    assert set(found) == {"RN50x4", "RN50x4-quickgelu", "EVA02-B-16"}
    assert found["EVA02-B-16"]["opens"] is True
    assert "mmrl" in found["EVA02-B-16"]["methods"]
    assert found["RN50x4"]["image"] == {"family": "ModifiedResNet", "depth": 0, "width": 0, "on_feature_maps": True}
    assert (found["RN50x4"]["opens"], found["RN50x4"]["complete"]) == (False, True)
    assert "mmrl" not in found["RN50x4"]["methods"]


def test_the_documented_rows_are_the_commands_own(capsys: Capture) -> None:
    rows = [line for line in call(capsys, "backbones", *NAMES, "--markdown").out.splitlines() if line.startswith("|")]
    documented = (ROOT / "docs" / "backbones.md").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 5
    assert set(rows) <= set(documented)


def test_an_unknown_architecture_is_a_mistake(capsys: Capture) -> None:
    assert "unknown architecture 'SigLIPP'" in call(capsys, "backbones", "SigLIPP").mistake()
