"""The `tiny` backbone: a 4.5-million-parameter CLIP in open_clip's format, trained on emoji and clip art.

docs/tiny-clip.md is the model card: training data, accuracy and limitations. OpenMoji is not in the training data.
"""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Return the folder with `open_clip_config.json`, the weights and the tokenizer's vocabulary."""
    return Path(__file__).parent
