"""What is installed: no heavy package by default, and the same commands and files in images and environments."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path
from shutil import copy2, copytree

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PACKAGING = ROOT / "packaging"
IMAGES = sorted(PACKAGING.glob("*.Dockerfile"))

EXTRAS_ONLY = {"gradio", "ray", "transformers", "matplotlib", "datasets", "pandas", "scikit-learn", "scipy", "onnx"}
TRACKERS = {"wandb", "mlflow", "tensorboard", "comet-ml", "clearml", "aim", "neptune", "trackio", "swanlab"}


# -- requirements -----------------------------------------------------------------------------------------------------


def closure(distribution: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Names of all distributions that `pip install DISTRIBUTION[EXTRAS]` installs here."""
    seen: set[tuple[str, str]] = set()
    waiting = [(distribution, extra) for extra in {"", *extras}]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, requires(name) or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                needed = canonicalize_name(requirement.name)
                waiting += [(needed, wanted) for wanted in {"", *requirement.extras}]
    return {name for name, _ in seen}


def test_a_plain_install_brings_neither_services_nor_trackers() -> None:
    installed = closure("vlmadapt")
    assert {"torch", "open-clip-torch", "resvg-py", "numpy"} <= installed, "requirements of requirements are among them"
    assert not installed & (EXTRAS_ONLY | TRACKERS)


def test_an_extra_would_be_noticed() -> None:
    assert "matplotlib" in closure("vlmadapt", frozenset({"report"}))


@pytest.mark.slow
def test_training_imports_no_package_of_an_extra() -> None:
    names = sorted(
        (EXTRAS_ONLY - {"transformers"}) | TRACKERS | {"sklearn", "comet_ml"}
    )  # open_clip tries transformers
    code = f"import sys, vlmadapt.training.fit, vlmadapt.cli.fit; print(sys.modules.keys() & set({names!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# -- images and environments ------------------------------------------------------------------------------------------


def test_there_is_an_image_for_each_kind_of_device() -> None:
    assert [path.stem for path in IMAGES] == ["cpu", "cuda"]


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.stem)
def test_images_install_as_the_readme_does(path: Path) -> None:
    text = path.read_text()
    assert re.search(r"^python3 -m venv .venv && .venv/bin/pip install \. &&", (ROOT / "README.md").read_text(), re.M)
    (copied,) = re.findall(r"^COPY \. (\S+)$", text, re.M)
    assert re.findall(r"^RUN pip install (.*)$", text, re.M) == [f"--no-cache-dir {copied}"]


def test_the_images_differ_in_their_device_alone() -> None:
    def steps(path: Path) -> list[str]:
        return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]

    cpu, cuda = map(steps, IMAGES)
    assert [line for line in cpu if line not in cuda] == ['ARG PIP_EXTRA_INDEX_URL=""']
    assert [line for line in cuda if line not in cpu] == [
        "ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    ]


def test_the_conda_environment_installs_this_repository() -> None:
    *conda, pip = yaml.safe_load((PACKAGING / "environment.yml").read_text())["dependencies"]
    assert conda == ["python=3.11", "pip"]
    assert [(PACKAGING / where).resolve() for where in pip["pip"]] == [ROOT]


@pytest.mark.processes
def test_the_files_of_an_image_suffice_for_the_whole_package(tmp_path: Path) -> None:
    """The wheel of what `.dockerignore` lets through is that of the repository, file by file."""
    context = tmp_path / "context"
    context.mkdir()
    let_through = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.M)
    for path in map(ROOT.joinpath, let_through):
        (copytree if path.is_dir() else copy2)(path, context / path.name)
    assert wheel(context, tmp_path / "a") == wheel(ROOT, tmp_path / "b")


def wheel(project: Path, out: Path) -> dict[str, int]:
    """Checksum by file of the wheel that is built from a folder."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}
