"""A small random CLIP for tests: three blocks a side, the real tokenizer, made in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.parity import tiny_clip
from vlmadapt import Backbone

SETTINGS = {
    "seed": 7,
    "vision_width": 64,
    "vision_layers": 3,
    "patch": 8,
    "resolution": 16,
    "text_width": 64,
    "text_layers": 3,
    "context": 40,
    "vocab": 49408,
    "embed": 32,
}
FEWER_TEXTS: dict[str, dict[str, Any]] = {"mma++": {"texts": "descriptions"}, "waffle": {"pairs": 2}}
"""Options of methods that by default have so many texts for each class that tests of them take long."""
NAMES = ("golden retriever", "american_pit_bull_terrier", "Boeing 737-800", "cat", "jack-o'-lantern")


def backbone(folder: Path) -> Backbone:
    return tiny_clip.load(folder / "small_clip", SETTINGS)
