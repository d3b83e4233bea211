"""Seeded mutations of files: bytes, and values of JSON."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from tests.data.test_fuzz import mutated as mutated_text

VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 10**30, 1e308, math.nan, math.inf, "", "x", "²", "\ud800", "../../x", [], {}, [[]]),
    *({"name": "x"}, "a" * 300, 2**63),
)
"""What a value of a JSON file may have become."""


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file with something changed: another text, flipped bits, an end missing, or another value in JSON."""
    kinds = [mutated_text, _flipped, _cut]
    try:
        json.loads(content)
    except ValueError:
        pass
    else:
        kinds += [_other_value] * 3
    while (changed := chance.choice(kinds)(content, chance)) == content:
        pass
    return changed


def _flipped(content: bytes, chance: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(chance.choice((1, 1, 5))):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _cut(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def _other_value(content: bytes, chance: random.Random) -> bytes:
    """JSON with a value, somewhere, that is changed, missing, or another one's."""
    whole = json.loads(content)
    parents = list(_containers(whole))
    parent = chance.choice(parents)
    keys = list(parent) if isinstance(parent, dict) else range(len(parent))
    key = chance.choice(list(keys))
    value = parent[key]
    act = chance.randrange(4)
    if act == 0:
        del parent[key]
    elif act == 1 and isinstance(value, int | float):
        parent[key] = value + chance.choice((-1, 1, 0.5))
    elif act == 1 and isinstance(value, str):
        parent[key] = value + chance.choice("a0 ")
    elif act == 2:
        parent[key] = chance.choice([v for p in parents for v in (p.values() if isinstance(p, dict) else p)])
    else:
        parent[key] = chance.choice(VALUES)
    try:
        return json.dumps(whole).encode()
    except ValueError:  # a value inside of itself
        return content


def _containers(value: Any) -> Any:
    """All objects and lists in a JSON value that hold something."""
    if isinstance(value, dict | list) and value:
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _containers(part)
