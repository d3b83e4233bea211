"""Draw K images per class, the same images as CoOp."""

from __future__ import annotations

import random
from collections.abc import Sequence

from vlmadapt.data.dataset import Example


def sample_shots(
    examples: Sequence[Example], shots: int | None, seed: int | random.Random
) -> tuple[tuple[Example, ...], dict[int, int]]:
    """Draw `shots` examples of each class; None or 0 keeps all.

    The images are those of Dassl's `generate_fewshot_dataset` for the same `examples` and seed: classes in the order
    in which they first appear, `random.sample` from one generator for all of them, and all images of a class that has
    too few. Dassl draws training and validation images one after the other from one generator: pass that generator
    instead of a seed.

    Returns:
        The examples, class by class, and for each label with fewer than `shots` images how many it has.
    """
    if not shots:
        return tuple(examples), {}
    by_label: dict[int, list[Example]] = {}
    for example in examples:
        by_label.setdefault(example.label, []).append(example)
    generator = seed if isinstance(seed, random.Random) else random.Random(seed)
    drawn: list[Example] = []
    for items in by_label.values():
        drawn += generator.sample(items, shots) if len(items) >= shots else items
    return tuple(drawn), {label: len(items) for label, items in by_label.items() if len(items) < shots}
