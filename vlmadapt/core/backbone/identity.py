"""Identity of a backbone: hashes and names of its weights, activation, image preprocessing and tokenizer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

PROBES = (
    "a photo of a cat.",
    "A Photo Of A CAT",
    "jack-o'-lantern  (Boeing 737-800), 50 %",
    "naïve façade, Übergröße, ñandú",
    "狮子 лев أسد 🦁",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
)
"""Texts that tokenizers encode differently: case, spaces, punctuation, numbers, accents, other scripts, long words."""


def weights_sha256(model: nn.Module) -> str:
    """SHA-256 of all weights of a model, names included."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def tokenizer_sha256(tokenizer: Any) -> str:
    """SHA-256 of the token ids that a tokenizer gives for a fixed list of texts."""
    return hashlib.sha256(json.dumps(tokenizer(list(PROBES)).tolist()).encode()).hexdigest()


def activations(model: nn.Module) -> list[str]:
    """Names of the activation modules of a model, e.g. `['QuickGELU']`; the same weights need the same ones."""
    kinds = {type(module) for module in model.modules()}
    torchs_own = {kind for kind in kinds if kind.__module__ == nn.GELU.__module__} - {nn.MultiheadAttention}
    return sorted({kind.__name__ for kind in torchs_own | {kind for kind in kinds if "GELU" in kind.__name__}})


def differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """What differs between two identities, each as `what (found) instead of (expected)`.

    Keys that only one of them has are not compared.
    """
    return [
        f"{'weights' if name == 'sha256' else name} ({_short(found[name])}) instead of ({_short(expected[name])})"
        for name in found
        if name in expected and json.dumps(expected[name], sort_keys=True) != json.dumps(found[name], sort_keys=True)
    ]


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text[:12] if isinstance(value, str) and len(text) == 64 else text
