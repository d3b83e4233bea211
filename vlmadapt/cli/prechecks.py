"""Checks that need no model: wrong paths and names are refused before torch is imported, which takes seconds."""

from __future__ import annotations

import os
from pathlib import Path

from vlmadapt.data.class_split import read_class_split
from vlmadapt.data.descriptions import read_descriptions
from vlmadapt.data.load import HUB, is_registered, load_data
from vlmadapt.data.registered import find_source, require_root
from vlmadapt.data.splits import check_given
from vlmadapt.data.table import SUFFIXES
from vlmadapt.data.templates import check_templates
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.runs.resumption import restarted
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings


def check_startable(settings: FitSettings) -> None:
    """Refuse a run whose data, files or folder are known to be wrong.

    Raises:
        VlmadaptError: a data set or a file does not exist, a template is invalid, or the run folder is taken.
    """
    named = settings.with_names()
    root = Path(settings.data_root) if settings.data_root else None
    check_given(named.protocol or "", named.target_names, settings.class_split)
    for data in (settings.data, *named.target_names):
        check_data_exists(data, root)
    if settings.classes and not Path(settings.classes).exists():
        raise DataError(f"class names cannot be read from '{settings.classes}': the file does not exist.")
    if settings.descriptions:
        read_descriptions(Path(settings.descriptions))
    if settings.class_split:
        read_class_split(Path(settings.class_split))
    if settings.templates is not None:
        check_templates(settings.templates)
    if not restarted():  # then the run is continued, see `vlmadapt.runs.resumption.interrupted_run`
        Run.new(Path(named.out or "run"))
        check_place(Path(named.out or "run"))


def check_resumable(folder: Path) -> FitSettings:
    """Settings of the run in a folder.

    Raises:
        VlmadaptError: the folder holds no run, or its method is not installed.
    """
    run = Run.open(folder)
    run.check_method()
    return run.settings()


def check_data_exists(data: str, root: Path | None) -> None:
    """Refuse a data set that is not registered, a folder or file that does not exist, and one that holds no data.

    Raises:
        VlmadaptError: the message names the nearest data set.
    """
    if is_registered(data):
        require_root(data, find_source(data), root)
    elif not data.startswith(HUB) and not _may_hold_data(Path(data).expanduser()):
        load_data(data, root=root)


def _may_hold_data(path: Path) -> bool:
    """Whether this is a table, or a folder with folders; a large folder is not read twice."""
    try:
        if path.suffix.lower() in SUFFIXES and not path.is_dir():
            return path.is_file()
        return any(child.is_dir() for child in path.iterdir())
    except OSError:
        return False  # `load_data` says what is wrong


def check_place(folder: Path) -> None:
    """Refuse a run folder that cannot be made.

    Raises:
        VlmadaptError: the folder above it is a file, or cannot be written to.
    """
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir():
        raise VlmadaptError(f"the run folder '{folder}' cannot be made: '{above}' is a file; name another with --out.")
    if not os.access(above, os.W_OK):
        raise VlmadaptError(
            f"the run folder '{folder}' cannot be made: '{above}' cannot be written to; name another with --out."
        )
