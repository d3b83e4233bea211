"""The manifest of the data set: which emoji is in which class and split, and the SHA-256 its SVG must have."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Record:
    """One image: `code` names its SVG; images with the same `concept` are always in the same split."""

    code: str
    concept: str
    name: str
    class_name: str
    split: str
    sha256: str


def _text() -> str:
    return (files(__package__ or "vlmadapt_openmoji") / "manifest.json").read_text(encoding="utf-8")


@cache
def records() -> tuple[Record, ...]:
    """Return every picture, ordered by class."""
    rows = json.loads(_text())["images"]
    return tuple(Record(r["code"], r["concept"], r["name"], r["class"], r["split"], r["sha256"]) for r in rows)


@cache
def class_names() -> tuple[str, ...]:
    """Return the class names in alphabetical order; labels are positions in this list."""
    return tuple(sorted({record.class_name for record in records()}))


@cache
def digest() -> str:
    """Return a short fingerprint of the manifest; a changed manifest gets a new cache folder."""
    return hashlib.sha256(_text().encode()).hexdigest()[:12]
