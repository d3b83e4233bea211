"""TDA."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official

METHOD = "tda"


def official() -> Official:
    return Official(method="tda", options=_options)


def _options(hyper: dict[str, Any], oracle: dict[str, Any]) -> dict[str, Any]:
    caches = {"positive": hyper["positive"], "negative": hyper["negative"]}
    options = {
        f"{name}_{ours}": cache[theirs]
        for name, cache in caches.items()
        for ours, theirs in (("shots", "shot_capacity"), ("alpha", "alpha"), ("beta", "beta"))
    }
    entropy, probability = hyper["negative"]["entropy_threshold"], hyper["negative"]["mask_threshold"]
    return {
        **options,
        "min_entropy": entropy["lower"],
        "max_entropy": entropy["upper"],
        "min_probability": probability["lower"],
        "max_probability": probability["upper"],
        "views": hyper["views"],
    }
