"""The `tiny` backbone: a 4.5-million-parameter CLIP in open_clip's format, trained on other artists' emoji.

See docs/tiny-clip.md for what it learnt from, how well it does and what it cannot do.
"""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return the folder with `open_clip_config.json`, the weights and the tokenizer's vocabulary."""
    return Path(__file__).parent
