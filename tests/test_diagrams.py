"""The diagrams of the architecture page show what the code has, and their files are up to date."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def diagrams() -> ModuleType:
    """The script `docs/diagrams.py`."""
    spec = importlib.util.spec_from_file_location("diagrams", ROOT / "docs/diagrams.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_layers_are_those_of_the_import_contract(diagrams: ModuleType) -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = [contract["layers"] for contract in contracts if contract["type"] == "layers"]
    enforced = [name.removeprefix("vlmadapt.") for layer in layers for name in layer.split(" | ")]
    drawn = [name for row in diagrams.LAYERS for box, _ in row for name in box.split(", ")]
    assert drawn == enforced


@pytest.mark.parametrize("name", ["layers", "forward_pass"])
def test_files_are_what_the_script_draws(diagrams: ModuleType, tmp_path: Path, name: str) -> None:
    getattr(diagrams, name)().write(tmp_path / "drawn.svg")
    committed = ROOT / f"docs/images/{name.replace('_', '-')}.svg"
    assert (tmp_path / "drawn.svg").read_text() == committed.read_text()


def test_boxes_stay_inside_the_drawing(diagrams: ModuleType) -> None:
    import xml.etree.ElementTree as ET

    for drawing in (diagrams.layers(), diagrams.forward_pass()):
        root = ET.fromstring("\n".join([*drawing.parts, "</svg>"]))
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for box in root.iter("{http://www.w3.org/2000/svg}rect"):
            assert float(box.get("x", 0)) + float(box.attrib["width"]) <= width
            assert float(box.get("y", 0)) + float(box.attrib["height"]) <= height
