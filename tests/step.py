"""A training step of a method, and the torch operators in it."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vlmadapt.core import run_tower
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.method import total
from vlmadapt.core.packing import Packing
from vlmadapt.core.sequences import Sequences
from vlmadapt.testing import MethodUnderTest
from vlmadapt.testing.data import MemorySupport

BATCH = 4
ROOT = Path(__file__).parents[1]
OURS = (str(ROOT / "vlmadapt"), str(ROOT / "plugins"))


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


# -- how much ---------------------------------------------------------------------------------------------------------


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
    whole, last = run_tower.run_block, run_tower.run_last_block

    def add(block: Any, x: Sequences, packing: Packing) -> None:
        suffix = sum(bucket.size for bucket in packing.buckets)
        counts["text" if id(block) in text else "image"] += (
            x.suffix.shape[0] * suffix + x.prefix.shape[0] * x.map.prefix_len
        )

    def run_block(block: Any, x: Sequences, packing: Packing, adapters: Any) -> Any:
        add(block, x, packing)
        return whole(block, x, packing, adapters)

    def run_last_block(block: Any, x: Sequences, packing: Packing, adapters: Any, reads: Any) -> Any:
        add(block, x, packing)
        return last(block, x, packing, adapters, reads)

    run_tower.run_block, run_tower.run_last_block = run_block, run_last_block
    try:
        yield counts
    finally:
        run_tower.run_block, run_tower.run_last_block = whole, last


# -- what would wait on a GPU -----------------------------------------------------------------------------------------

READ_BY_THE_HOST = {"aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero"}
SIZED_BY_DATA = {"aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::bincount"}
INDEXING = {"aten::index.Tensor", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
TO_THE_HOST = {"tolist", "item", "cpu", "numpy"}
FACTORIES = {"arange", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "randperm", "zeros", "tensor"}


class HostReads(TorchDispatchMode):
    """Finds operators whose result the host has to wait for, and tensors made of Python data."""

    def __init__(self, found: Callable[[str], None]):
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name()
        plain = name.partition(".")[0]
        if plain in READ_BY_THE_HOST:
            self.found("reads a value")
        elif plain in SIZED_BY_DATA or (plain == "aten::repeat_interleave" and "output_size" not in (kwargs or {})):
            self.found("has a shape that depends on values")
        elif name in INDEXING and any(i is not None and i.dtype == torch.bool for i in args[1]):
            self.found("indexes by a mask")
        elif plain == "aten::lift_fresh":
            self.found("makes a tensor of Python data")
        return func(*args, **(kwargs or {}))


class HostCalls(TorchFunctionMode):
    """Finds the same where the CPU hides it: calls that copy to the host, and tensors made there by default."""

    def __init__(self, found: Callable[[str], None]):
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in TO_THE_HOST:
            self.found("reads a value")
        elif name in FACTORIES and getattr(torch, name) is func and (kwargs or {}).get("device") is None:
            self.found("makes a tensor on the host")
        return func(*args, **(kwargs or {}))


def host_waits(step: Callable[[], None]) -> set[str]:
    """Where a step would make a GPU wait, as `file.py function: what`, by the innermost line of ours."""
    seen: set[str] = set()

    def found(what: str) -> None:
        for frame in reversed(traceback.extract_stack()):
            if frame.filename.startswith(OURS):
                seen.add(f"{frame.filename.rpartition('/')[2]} {frame.name}: {what}")
                return
        seen.add(what)

    with HostCalls(found), HostReads(found):
        step()
    return seen
