"""Distributions as pip leaves them in a folder, written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

METHOD = '''
from dataclasses import dataclass
from vlmadapt.plugin import Method

@dataclass
class Config:
    """No options."""

class Plain(Method):
    """Nothing but CLIP."""
    Config = Config
    touches = ()
    api_version = 2
'''


def distribution(
    site: Path,
    name: str,
    entry_points: Mapping[str, str],
    source: str = METHOD,
    group: str = "vlmadapt.methods",
    version: str = "1.0",
) -> Path:
    """A distribution with one module, called like it."""
    module = name.replace("-", "_")
    info = site / f"{module}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    lines = [f"{key} = {value}" for key, value in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
    (site / f"{module}.py").write_text(source)
    return info
