"""Image formats that are read, and the file endings that belong to them."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import PurePath

from PIL import Image, features

SAFE = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "HEIF", "JPEG2000"),
    *("PPM", "ICO", "QOI", "SGI", "PSD", "PCX", "TGA"),
)
"""Formats that Pillow may open, whatever a file is called. Not among them: EPS, which starts Ghostscript."""
CODECS = {"WEBP": "webp", "AVIF": "avif", "JPEG2000": "jpg_2000"}
"""Formats that Pillow can be built without, by Pillow's name of the codec."""
HEIF_ENDINGS = (".heic", ".heif", ".hif")
HEIF_ADVICE = "pip install 'vlmadapt[heif]'"


@cache
def formats() -> tuple[str, ...]:
    """Safe formats that can be decoded here; HEIF needs the package `pillow-heif`."""
    Image.init()
    try:
        import pillow_heif
    except ModuleNotFoundError:
        pass
    else:
        pillow_heif.register_heif_opener()
    return tuple(name for name in SAFE if name in Image.OPEN and (name not in CODECS or features.check(CODECS[name])))


@cache
def endings() -> frozenset[str]:
    """File endings of these formats, in lower case, with the dot."""
    known = {*formats(), "MPO"}  # several JPEGs in one file, which is opened as JPEG
    return frozenset(ending for ending, name in Image.EXTENSION.items() if name in known)


def is_image(name: str) -> bool:
    """True if a file of this name is read as an image."""
    return PurePath(name).suffix.lower() in endings()


def advice(name: str) -> str:
    """What to install so that a file of this name can be read; empty where nothing helps."""
    missing = PurePath(name).suffix.lower() in HEIF_ENDINGS and "HEIF" not in formats()
    return HEIF_ADVICE if missing else ""


def unread_endings(counts: Counter[str]) -> str:
    """Files that are not read, by ending, and what to install: "3 .heic (pip install ...), 1 .txt"."""
    shown = []
    for ending, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        install = f" ({advice('x' + ending)})" if advice("x" + ending) else ""
        shown.append(f"{count:,} {ending or 'without an ending'}{install}")
    return ", ".join(shown)
