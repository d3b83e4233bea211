"""A training step of a method, and the torch operators in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import open_clip
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vlmadapt.core import run_tower
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.block import run_block, run_last_block
from vlmadapt.core.method import total
from vlmadapt.core.packing import Packing
from vlmadapt.core.sequences import Sequences
from vlmadapt.testing import MethodUnderTest
from vlmadapt.testing.data import MemorySupport

BATCH = 4


def class_names(n: int) -> tuple[str, ...]:
    """The first classes of ImageNet: names of one to several words, of many lengths in tokens."""
    return tuple(open_clip.IMAGENET_CLASSNAMES[:n])


def training_step(subject: MethodUnderTest, names: tuple[str, ...], plan: str = "planned") -> Callable[[], None]:
    """A function that takes loss and gradients of one batch, with start values, and applies nothing.

    It has been called once, so that all that is kept between steps is there.
    """
    classifier = subject.classifier(subject.build(names), plan)
    shots = subject.shots(names, per_class=1)
    with torch.no_grad():
        classifier.method.prepare(MemorySupport(classifier, shots, shots))
    parameters = [p for p in classifier.method.parameters() if p.requires_grad]
    images, labels = shots.images[:BATCH], shots.labels[:BATCH]

    def step() -> None:
        classifier.method.train()
        loss = total(classifier.method.losses(classifier.forward(images, names, labels)))
        torch.autograd.grad(loss, parameters, allow_unused=True)

    step()
    return step


class Operators(TorchDispatchMode):
    """Counts the operators that compute; views and memory that is only reserved cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and "empty" not in func.name():
            self.counts[func.name()] += 1
        return func(*args, **(kwargs or {}))


def operators(step: Callable[[], None]) -> int:
    """Number of operators that compute in a step."""
    with Operators() as seen:
        step()
    return sum(seen.counts.values())


@contextmanager
def counted_tokens(backbone: Backbone) -> Iterator[Counter[str]]:
    """Tokens that go through the blocks of each tower while it lasts, all blocks together."""
    counts: Counter[str] = Counter()
    text = {id(block) for block in backbone.text.blocks}

    def add(block: Any, x: Sequences, packing: Packing) -> None:
        suffix = sum(bucket.size for bucket in packing.buckets)
        counts["text" if id(block) in text else "image"] += x.groups * suffix + x.prefix.shape[0] * x.map.prefix_len

    def counted(block: Any, x: Sequences, packing: Packing, adapters: Any) -> Any:
        add(block, x, packing)
        return run_block(block, x, packing, adapters)

    def counted_last(block: Any, x: Sequences, packing: Packing, adapters: Any, reads: Any) -> Any:
        add(block, x, packing)
        return run_last_block(block, x, packing, adapters, reads)

    with patch.multiple(run_tower, run_block=counted, run_last_block=counted_last):
        yield counts
