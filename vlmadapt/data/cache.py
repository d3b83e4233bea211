"""Cache folders for files that are made once and reused."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(name: str) -> Path:
    """Cache folder `name`, created if missing.

    It is below `$VLMADAPT_CACHE` if set, else below `$XDG_CACHE_HOME/vlmadapt` or `~/.cache/vlmadapt`.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vlmadapt"
    folder = Path(os.environ.get("VLMADAPT_CACHE") or default) / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
