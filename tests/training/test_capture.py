"""Captured steps: a replay is trusted once it equals an eager step, and steps stay eager wherever it does not.

A stand-in takes the place of the CUDA graph; the tests marked `gpu` (`pytest -m gpu`) use the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, TypeVar, cast

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from vlmadapt import registry
from vlmadapt.core.cuda_graph import CudaGraph
from vlmadapt.core.method import Method, trainable_count
from vlmadapt.core.recipe import Precision
from vlmadapt.testing import MethodUnderTest, tiny_clip
from vlmadapt.testing.training import OneProcess
from vlmadapt.training.capture import MAX_RECORDINGS, WARM_UP, CapturedStep
from vlmadapt.training.step import StepNumbers, TrainingStep
from vlmadapt.training.trainer import StepTrainer

T = TypeVar("T")
LR = 1e-2
OPTIONS: dict[str, Any] = {"layers": [11, 12]}


class Recorded:
    """A stand-in for a CUDA graph: capturing changes no tensor, replaying runs the function again."""

    def __init__(self, tensors: Callable[[], list[Tensor]]):
        self._tensors = tensors
        self.replays = 0

    def warm_up(self) -> AbstractContextManager[object]:
        return nullcontext()

    def capture(self, function: Callable[[], T]) -> T:
        before, random = [tensor.clone() for tensor in self._tensors()], torch.get_rng_state()
        found = function()
        self._step: Any = function
        self._numbers: Any = found
        torch.set_rng_state(random)
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), before, strict=True):
                tensor.copy_(value)
        return found

    def replay(self) -> None:
        self.replays += 1
        numbers = self._step()
        self._numbers.values.copy_(numbers.values)
        self._numbers.correct.copy_(numbers.correct)

    def random_state(self) -> Tensor | None:
        return torch.get_rng_state()

    def set_random_state(self, state: Tensor | None) -> None:
        assert state is not None
        torch.set_rng_state(state)


class Wrong(Recorded):
    """Replays something else than what was captured."""

    def replay(self) -> None:
        super().replay()
        with torch.no_grad():
            self._tensors()[0].mul_(1.001)


class Refusing(Recorded):
    """As CUDA refuses a step that reads a tensor on the host."""

    def capture(self, function: Callable[[], T]) -> T:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")


class Odd(Recorded):
    """A method raises what it likes, and leaving the capture raises again."""

    def capture(self, function: Callable[[], T]) -> T:
        try:
            raise KeyError("what the method did")
        finally:
            raise RuntimeError("capture_end() failed")


class Breaking(Recorded):
    """Captures, but cannot be replayed."""

    def replay(self) -> None:
        with torch.no_grad():
            self._tensors()[0].add_(1.0)
        raise RuntimeError("out of memory")


class World:
    """A method with its trainer, and batches of random images."""

    def __init__(
        self,
        method: str = "mmrl",
        device: str = "cpu",
        precision: Precision = "fp32",
        accelerator: OneProcess | None = None,
        **options: Any,
    ):
        backbone = None if device == "cpu" else tiny_clip.__wrapped__()  # one of its own, to be moved
        tested = MethodUnderTest(method, options or (OPTIONS if method == "mmrl" else {}), backbone)
        self.method: Any = tested.build().to(device)
        process = accelerator or OneProcess()
        process.device = torch.device(device)
        recipe = replace(tested.recipe, precision=precision)
        self.trainer = StepTrainer(self.method, recipe, cast(Accelerator, process))
        classifier = tested.classifier(self.method)
        classifier.backbone.to(device)
        with torch.no_grad():
            self.method.prepare(cast(Any, None)) if type(self.method).prepare is Method.prepare else None
        shots = tested.shots(per_class=8)
        self.images, self.labels = shots.images.to(device), shots.labels.to(device)
        self.step = TrainingStep(classifier, shots.names, self.trainer)
        self.method.train()

    def tensors(self) -> list[Tensor]:
        return [*self.method.parameters(), *self.method.buffers(), *self.trainer.tensors()]

    def graph(self, kind: type[Recorded] = Recorded) -> Callable[[], Recorded]:
        return lambda: kind(self.tensors)

    def recorded(self) -> tuple[CapturedStep, list[Recorded]]:
        """A captured step, and the graphs that it makes."""
        made: list[Recorded] = []

        def graph() -> Recorded:
            made.append(Recorded(self.tensors))
            return made[-1]

        return CapturedStep(self.step, graph), made

    def run(self, step: Callable[[Tensor, Tensor], StepNumbers], steps: int, size: int = 4) -> Iterator[list[float]]:
        for number in range(steps):
            torch.manual_seed(number)
            self.trainer.start_step(LR * (1 + number), 1.0, number)
            start = number * size % (len(self.labels) - size)
            numbers = step(self.images[start : start + size], self.labels[start : start + size])
            yield [*numbers.values.tolist(), float(numbers.correct)]


def trained(captured: bool, steps: int, kind: type[Recorded] = Recorded, **world: Any) -> tuple[Any, ...]:
    there = World(**world)
    step = CapturedStep(there.step, there.graph(kind))
    step.start_epoch()
    numbers = list(there.run(step if captured else there.step, steps))
    return step, numbers, {name: value.clone() for name, value in there.method.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("method", ["mmrl", "coop", "clip-lora"])
def test_replayed_steps_are_the_eager_ones(method: str, precision: str) -> None:
    steps = WARM_UP + 4
    step, numbers, state = trained(True, steps, method=method, precision=precision)
    _, expected, expected_state = trained(False, steps, method=method, precision=precision)
    assert step.reason is None
    assert step.captured
    assert numbers == expected
    for name, value in state.items():
        assert torch.equal(value, expected_state[name]), name


def test_a_step_is_captured_after_warming_up_and_then_only_replayed() -> None:
    there = World()
    step, made = there.recorded()
    step.start_epoch()
    list(there.run(step, WARM_UP))
    assert not step.captured
    list(there.run(step, 1))
    assert step.captured
    list(there.run(step, 3))
    assert [recorded.replays for recorded in made] == [1 + 3]  # the trial, and every step after it


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Wrong, "its replay differs from an eager step by"),
        (Refusing, "operation not permitted when stream"),
        (Odd, "what the method did"),
        (Breaking, "out of memory"),
    ],
)
def test_what_cannot_be_trusted_runs_eagerly_and_says_why(kind: type[Recorded], said: str) -> None:
    step, numbers, state = trained(True, WARM_UP + 3, kind)
    _, expected, expected_state = trained(False, WARM_UP + 3)
    assert not step.captured
    assert said in step.reason
    assert "\n" not in step.reason
    assert numbers == expected
    for name, value in state.items():
        assert torch.equal(value, expected_state[name]), name


def test_a_dynamic_step_is_never_captured() -> None:
    there = World()
    type(there.method).dynamic_step = True
    try:
        step = CapturedStep(there.step, lambda: pytest.fail("a graph was made"))
        list(there.run(step, WARM_UP + 2))
        assert step.reason == "the operations of the method's step differ between steps"
    finally:
        type(there.method).dynamic_step = False


def test_a_step_that_changes_the_method_on_the_host_is_not_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replay does not run Python: such a change would happen once and never again."""
    there = World()
    there.method.counted = 0
    original = there.step.classifier.method.training_step

    def counting(*args: Any) -> Any:
        there.method.counted += 1
        return original(*args)

    monkeypatch.setattr(there.method, "training_step", counting)
    step = CapturedStep(there.step, there.graph())
    step.start_epoch()
    list(there.run(step, WARM_UP + 2))
    assert not step.captured
    assert step.reason == "the step cannot be captured: it changes the method on the host"
    assert there.method.counted == WARM_UP + 3


def test_a_method_that_changes_between_epochs_is_captured_again() -> None:
    there = World()
    step = CapturedStep(there.step, there.graph())
    step.start_epoch()
    list(there.run(step, WARM_UP + 1))
    step.start_epoch()
    assert step.captured, "nothing has changed"
    there.method.config = replace(there.method.config, alpha=0.2)
    step.start_epoch()
    assert not step.captured
    changed = World()
    changed.method.load_state_dict(there.method.state_dict())
    list(there.run(step, WARM_UP + 2))
    assert step.captured


def test_a_parameter_that_is_switched_on_between_epochs_is_captured_again() -> None:
    there = World()
    late = there.method.get_parameter("projection").requires_grad_(False)
    step = CapturedStep(there.step, there.graph())
    for trained in (False, True):
        late.requires_grad_(trained)
        before = late.detach().clone()
        step.start_epoch()
        assert not step.captured
        list(there.run(step, WARM_UP + 2))
        assert step.captured
        assert torch.equal(late, before) != trained


def test_each_batch_shape_has_a_recording_of_its_own() -> None:
    there = World()
    step, made = there.recorded()
    step.start_epoch()
    for size in (4, 2, 4, 2):
        list(there.run(step, WARM_UP, size))
    assert len(made) == 2
    assert [recorded.replays for recorded in made] == [WARM_UP, WARM_UP]


def test_frozen_activations_that_are_computed_in_a_capture_are_dropped() -> None:
    """A capture computes nothing: what it puts into the cache has no values."""
    there = World()
    classifier = there.step.classifier

    class Evicting(Recorded):
        def capture(self, function: Callable[[], T]) -> T:
            classifier.drop_kept()
            found = super().capture(function)
            self.made = {id(value) for value in classifier.kept()}
            return found

    made: list[Evicting] = []

    def graph() -> Evicting:
        made.append(Evicting(there.tensors))
        return made[-1]

    step = CapturedStep(there.step, graph)
    step.start_epoch()
    list(there.run(step, WARM_UP + 1))
    assert step.reason == "the step cannot be captured: its frozen activations do not fit into the cache"
    assert classifier.kept()
    assert not made[0].made & {id(value) for value in classifier.kept()}


def test_only_so_many_shapes_are_captured() -> None:
    there = World()
    made: list[Recorded] = []

    def graph() -> Recorded:
        made.append(Recorded(there.tensors))
        return made[-1]

    step = CapturedStep(there.step, graph)
    step.start_epoch()
    for size in range(1, MAX_RECORDINGS + 3):
        list(there.run(step, WARM_UP + 1, size))
    assert len(made) == MAX_RECORDINGS
    assert step.reason is None


METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_replayed_steps_are_the_eager_ones(method: str) -> None:
    steps = WARM_UP + 4
    if not trainable_count(MethodUnderTest(method).build()):
        pytest.skip("nothing is trained step by step")
    there, eager = World(method, "cuda"), World(method, "cuda")
    step = CapturedStep(there.step, CudaGraph)
    step.start_epoch()
    numbers, expected = list(there.run(step, steps)), list(eager.run(eager.step, steps))
    assert step.captured or there.method.dynamic_step, step.reason
    for found, wanted in zip(numbers, expected, strict=True):  # the terms of a dynamic step differ
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)
    for name, value in there.method.state_dict().items():
        torch.testing.assert_close(value, eager.method.state_dict()[name], rtol=1e-6, atol=1e-6)
