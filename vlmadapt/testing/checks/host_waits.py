"""Check that a training step can be captured and replayed on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice, zip_longest
from typing import cast

import torch
from accelerate import Accelerator

from vlmadapt.core.method import enter_cycle, trainable_count
from vlmadapt.core.recipe import Cycle
from vlmadapt.testing.data import CLASSES, MemorySupport
from vlmadapt.testing.host_waits import INSTEAD, Call, host_waits, recorded_calls
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.training import OneProcess
from vlmadapt.testing.under_test import MethodUnderTest
from vlmadapt.training.step import TrainingStep
from vlmadapt.training.trainer import StepTrainer

DYNAMIC = "set `dynamic_step = True`, and its steps run operation by operation"
STATIC = (
    "a replayed step repeats the shapes and Python numbers it was captured with: keep what changes in tensors, draw "
    f"with torch; where the step has to differ, {DYNAMIC}."
)


def no_host_waits(tested: MethodUnderTest) -> None:
    """A training step makes the host wait for no value, and no two steps compute differently."""
    if tested.trained.method.dynamic_step:
        raise NotApplicable("its step differs between steps (`dynamic_step`)")
    if not trainable_count(tested.trained.method) or not tested.recipe.epochs:
        raise NotApplicable("it is not trained step by step")
    recipe = tested.recipe
    for part in dict.fromkeys(map(recipe.cycle_at, range(recipe.epochs))):
        _check(_steps(tested, part))


def _check(steps: Iterator[Callable[[], object]]) -> None:
    next(steps)()  # fills what is kept between steps
    first: list[Call] = []
    waits = host_waits(lambda: first.extend(_calls(next(steps))))
    if waits:
        wait = waits[0]
        more = f" ({len(waits) - 1} more places)" if len(waits) > 1 else ""
        raise CheckFailed(
            f"in a training step {wait}, so that a GPU is waited for and the step cannot be captured{more}.",
            f"{INSTEAD[wait.what]}; where the step has to differ, {DYNAMIC}.",
        )
    _same(first, _calls(next(steps)))


def _steps(tested: MethodUnderTest, part: Cycle) -> Iterator[Callable[[], object]]:
    """Training steps of a cycle, one after another, as `fit` takes them: method, trainer, optimiser and accuracy."""
    torch.manual_seed(0)
    method = tested.build()
    classifier, shots = tested.classifier(method), tested.shots()
    support = MemorySupport(classifier, shots, tested.shots(per_class=2, seed=1))
    with torch.no_grad():
        method.prepare(support)
        for number in range(part.number + 1):
            enter_cycle(method, part._replace(number=number))
            method.cycle_start(number, support)
    if method.draws_images:
        classifier.bank = support.bank(part.start)
    trainer = StepTrainer(method, tested.recipe, cast(Accelerator, OneProcess()))
    step = TrainingStep(classifier, CLASSES, trainer)
    method.train()
    method.epoch_start(0, 2)
    whole = len(shots.labels) // tested.recipe.batch_size
    for number, (images, labels) in enumerate(cycle(islice(shots.batches(tested.recipe.batch_size), whole))):
        trainer.start_step(tested.recipe.lr, 1.0, number)
        yield partial(step, images, labels)


def _calls(step: Callable[[], object]) -> list[Call]:
    with recorded_calls() as calls:
        step()
    return calls


def _same(first: Sequence[Call], second: Sequence[Call]) -> None:
    """Compare the operators of two steps.

    Raises:
        CheckFailed: they differ.
    """
    for a, b in zip_longest(first, second):
        if a is None or b is None or not a.same(b):
            raise CheckFailed(f"two training steps compute differently: {_difference(a, b)}.", STATIC)


def _difference(a: Call | None, b: Call | None) -> str:
    if a is not None and b is not None and (a.operator, a.place) == (b.operator, b.place):
        return f"{a} takes other shapes or numbers in the second ({a.arguments}; {b.arguments})"
    return f"the first calls {a or 'nothing more'}, the second {b or 'nothing more'}"
