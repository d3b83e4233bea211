"""Identity of a run: everything that its numbers depend on, kept with its state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vlmadapt.runs.places import PLACES
from vlmadapt.runs.settings import FitSettings

IRRELEVANT = ("out", "workers", "recursive", "columns", "zero_shot", "track", *PLACES)
"""Settings that say where things are, or that results do not depend on; data and weights are identified by hash."""

LATER = {"select": "last"}
"""Settings that older runs do not record, with the value that these had; left out where they have it."""


def run_identity(settings: FitSettings, data_sha256: str, backbone: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and hashes that decide the numbers of a run, as JSON.

    The number of epochs is not among them where training for more epochs starts with the same steps.

    Args:
        settings: resolved settings.
        data_sha256: hash of the images, labels and class names.
        backbone: `Backbone.identity`.
    """
    config = settings.to_config().items()
    content = {key: value for key, value in config if key not in IRRELEVANT and LATER.get(key) != value}
    if settings.recipe.extendable:
        content["train"] = {key: value for key, value in content["train"].items() if key != "epochs"}
    found: dict[str, Any] = json.loads(json.dumps({**content, "data_sha256": data_sha256, "backbone": dict(backbone)}))
    return found


def identity_differences(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names of the settings in which two identities differ, most telling first."""
    names = [*now, *(name for name in saved if name not in now)]
    found: list[str] = []
    for name in names:
        before, after = saved.get(name), now.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            found += identity_differences(before, after, f"{prefix}{name}.")
        elif before != after:
            found.append(f"{prefix}{name} ({_short(before)} instead of {_short(after)})")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 30 else f"{text[:16]}..."
