"""Sources of the pretraining pictures. OpenMoji is in no list, so its style is unseen until evaluation."""

from __future__ import annotations

# npm packages @iconify-json/NAME: other artists' emoji, each with the licence its package states.
EMOJI_SETS: dict[str, str] = {
    "noto": "Apache-2.0",
    "noto-v1": "Apache-2.0",
    "twemoji": "CC-BY-4.0",
    "fluent-emoji-flat": "MIT",
    "fluent-emoji": "MIT",
    "fluent-emoji-high-contrast": "MIT",
    "emojione": "CC-BY-4.0",
    "emojione-monotone": "CC-BY-4.0",
    "fxemoji": "Apache-2.0",
}
# Held out entirely, with every concept it draws; used for all choices of the recipe.
VALIDATION_SET = {"streamline-emojis": "CC-BY-4.0"}
# npm packages @iconify-json/NAME: clip art, captioned by file name.
CLIPART_SETS: dict[str, str] = {
    "streamline-kameleon-color": "CC-BY-4.0",
    "streamline-ultimate-color": "CC-BY-4.0",
    "streamline-color": "CC-BY-4.0",
    "streamline-plump-color": "CC-BY-4.0",
    "streamline-stickies-color": "CC-BY-4.0",
    "flat-color-icons": "MIT",
    "meteocons": "MIT",
    "icon-park": "Apache-2.0",
    "game-icons": "CC-BY-3.0",
}
FORBIDDEN = ("openmoji",)
