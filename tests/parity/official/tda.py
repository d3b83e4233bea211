"""TDA."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official

METHOD = "tda"


def official() -> Official:
    return Official(method="tda", options=_options)


def _options(hyper: dict[str, Any], oracle: dict[str, Any]) -> dict[str, Any]:
    caches = {name: hyper[name] for name in ("positive", "negative") if hyper[name]["enabled"]}
    options = {f"{name}_shots": 0 for name in ("positive", "negative")} | {
        f"{name}_{ours}": cache[theirs]
        for name, cache in caches.items()
        for ours, theirs in (("shots", "shot_capacity"), ("alpha", "alpha"), ("beta", "beta"))
    }
    for ours, theirs in (("entropy", "entropy_threshold"), ("probability", "mask_threshold")):
        if "negative" in caches:
            bounds = caches["negative"][theirs]
            options |= {f"min_{ours}": bounds["lower"], f"max_{ours}": bounds["upper"]}
    return {**options, "views": hyper["views"]}
