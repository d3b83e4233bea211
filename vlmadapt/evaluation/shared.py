"""Runs shared on the Hugging Face Hub: the adapter with a description, and how they are downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from vlmadapt.core.adapter import CONFIG, WEIGHTS
from vlmadapt.errors import AdapterError, DataError, VlmadaptError
from vlmadapt.evaluation.calibration import Calibration
from vlmadapt.files import read_json
from vlmadapt.runs.shapes import CalibrationFile
from vlmadapt.shapes import check_shape
from vlmadapt.text import first_line

HUB = "hf:"
"""Start of the name of a shared run: `hf:OWNER/NAME`, with `@REVISION` after it for another than the newest."""
DESCRIPTION = "vlmadapt.json"


class DescriptionFile(TypedDict):
    """`vlmadapt.json`: what loading needs next to the adapter, and the numbers of the run.

    Attributes:
        format: version of the file.
        classes: names of all its classes, which are chosen from by default.
        trained: those it was trained on.
        result: accuracies and what identifies the run, without file names.
        calibration: temperature and thresholds from validation images; none for a run without these.
    """

    format: Literal[1]
    classes: list[str]
    trained: list[str]
    result: dict[str, Any]
    calibration: NotRequired[CalibrationFile]


@dataclass(frozen=True)
class SharedRun:
    """A downloaded run.

    Attributes:
        adapter: folder with the two files of the adapter.
        classes: names of all its classes.
        trained: those it was trained on.
        calibration: temperature and thresholds from validation images.
    """

    adapter: Path
    classes: tuple[str, ...]
    trained: tuple[str, ...]
    calibration: Calibration | None = None


def is_shared(name: Path | str) -> bool:
    """Whether this names a run on the Hub."""
    return str(name).startswith(HUB)


def download(name: str) -> SharedRun:
    """Download a shared run, safetensors and JSON alone.

    Args:
        name: `hf:OWNER/NAME` or `hf:OWNER/NAME@REVISION`.

    Raises:
        VlmadaptError: it does not exist, cannot be reached, or holds no shared run.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, _, revision = name.removeprefix(HUB).partition("@")
    try:
        folder = Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS, DESCRIPTION])
        )
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        raise VlmadaptError(f"'{name}' cannot be downloaded: {first_line(error).rstrip('.')}.") from error
    return read_shared(folder, name)


def read_shared(folder: Path, name: str) -> SharedRun:
    """A shared run in a local folder.

    Raises:
        AdapterError: the folder holds none.
    """
    try:
        content = read_json(folder / DESCRIPTION)
        check_shape(content, DescriptionFile)
    except (DataError, ValueError) as error:
        raise AdapterError(f"'{name}' is no shared run: {first_line(error).rstrip('.')}.") from error
    found = content.get("calibration")
    calibration = Calibration(**found) if found else None
    return SharedRun(folder, tuple(content["classes"]), tuple(content["trained"]), calibration)
