"""Thumbnails embedded in the page."""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

from PIL import Image

from vlmadapt.data.images import read_image
from vlmadapt.errors import DataError

SIZE = 256
"""Pixels of the longer side; shown at a quarter of that until it is enlarged."""


@lru_cache(maxsize=1000)
def thumbnail(path: Path) -> str | None:
    """An image as a data URI, None if it cannot be read."""
    try:
        image = read_image(path)
    except DataError:
        return None
    image.thumbnail((SIZE, SIZE), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    image.save(written, "WEBP", quality=75)
    return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
