"""Capture a whole training step as a CUDA graph and replay it: one launch instead of thousands.

The first steps of a batch shape run eagerly, on a side stream, so that everything lazy has happened (kept activations,
packings, the optimiser's state, cuBLAS workspaces). Then the step is captured. Before the graph is trusted it is
replayed once and compared with an eager step on the same inputs; where they differ, or where a step cannot be captured,
steps stay eager and `reason` says why.

Several processes capture the same step, gradient exchange included, and replay it if all of them can: one that runs
eagerly among others that replay would be waited for in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from vlmadapt.core.cuda_graph import CudaGraph, Graph, first_cause
from vlmadapt.core.kept_text import MethodState
from vlmadapt.text import first_line
from vlmadapt.training.step import StepNumbers, TrainingStep

T = TypeVar("T")

WARM_UP = 3
"""Eager steps of a batch shape before its step is captured."""

MAX_RECORDINGS = 4
"""Batch shapes that are captured, each with memory of its own; steps of further shapes run eagerly."""

TOLERANCES: dict[torch.dtype | None, float] = {None: 1e-4}
HALF_TOLERANCE = 1e-2
"""Largest difference between replay and eager step by precision: of the loss, and of all changes, relative to each.

Sums whose order is not fixed differ in the last digit, and Adam divides by the size of a gradient, which may be small.
"""


class _NotCaptured(Exception):
    """Reason why a step has to run eagerly."""


class CapturedStep:
    """A training step that is replayed once it has been captured; called like the step itself.

    Args:
        step: the step to capture.
        new_graph: makes an empty graph.

    Attributes:
        reason: reason why steps run eagerly from now on; None while they are replayed or may still be captured.
    """

    def __init__(self, step: TrainingStep, new_graph: Callable[[], Graph] = CudaGraph):
        self._step = step
        self._new_graph = new_graph
        self._recorded: dict[Hashable, _Recording] = {}
        self._warming: dict[Hashable, _WarmUp] = {}
        self._state: Hashable = None
        self.reason: str | None = None
        if step.classifier.method.dynamic_step:
            self.reason = "the operations of the method's step differ between steps"
        elif not step.trainer.exchanges_on_device:
            self.reason = "gradients are exchanged through the host, not by NCCL"

    @property
    def captured(self) -> bool:
        """Whether a recording exists."""
        return bool(self._recorded)

    def start_epoch(self) -> None:
        """Drop recordings if the method has changed on the host since, as it may between epochs."""
        state = self._host_state()
        if state != self._state:
            self._state = state
            self._recorded.clear()
            self._warming.clear()

    def __call__(self, images: Tensor, labels: Tensor) -> StepNumbers:
        """Run or replay the step on images (B, 3, H, W) and labels (B,)."""
        if self.reason is not None:
            return self._step(images, labels)
        trainer = self._step.trainer
        key = (images.shape, images.dtype, trainer.weight, trainer.batch)
        if key in self._recorded:
            return self._recorded[key].replay(images, labels)
        if len(self._recorded) == MAX_RECORDINGS:
            return self._step(images, labels)
        if key not in self._warming:
            self._warming[key] = _WarmUp(self._new_graph())
        warming = self._warming[key]
        if warming.steps == WARM_UP:
            return self._capture(key, warming.graph, images, labels)
        warming.steps += 1
        with warming.graph.warm_up():
            return self._step(images, labels)

    def _capture(self, key: Hashable, graph: Graph, images: Tensor, labels: Tensor) -> StepNumbers:
        """Record the step and compare a replay with the eager step, which is the one that counts."""
        del self._warming[key]
        try:
            recording = self._together(lambda: self._recording(graph, images, labels))
            with _Trial(self._step, recording) as trial:
                trial.replayed(self._together(lambda: recording.replay(images, labels)))
        except _NotCaptured as error:
            self._give_up(error)
            return self._step(images, labels)
        numbers = self._step(images, labels)
        try:
            self._together(lambda: self._compare(trial, numbers))
        except _NotCaptured as error:
            self._give_up(error)
        else:
            self._recorded[key] = recording
        return numbers

    def _together(self, attempt: Callable[[], T]) -> T:
        """What an attempt gives, if it succeeds in every process.

        Raises:
            _NotCaptured: it fails in one of them.
        """
        reason = None
        try:
            found = attempt()
        except Exception as error:  # whatever a method raises: as an eager step it runs, or raises for all to see
            reason = first_line(first_cause(error))
        if self._step.trainer.sum_over_processes(torch.tensor(float(reason is not None))):
            raise _NotCaptured(reason or "another process cannot capture it")
        return found

    def _recording(self, graph: Graph, images: Tensor, labels: Tensor) -> _Recording:
        recording = _Recording(self._step, graph, images, labels)
        if self._host_state() != self._state:
            raise ValueError("it changes the method on the host")
        return recording

    def _compare(self, trial: _Trial, eager: StepNumbers) -> None:
        difference = trial.difference(eager)
        if not difference <= TOLERANCES.get(self._step.trainer.precision, HALF_TOLERANCE):
            raise ValueError(f"its replay differs from an eager step by {difference:.1e}")

    def _give_up(self, error: _NotCaptured) -> None:
        """Run steps eagerly from now on, with nothing left of what a capture has made."""
        self.reason = f"the step cannot be captured: {error}"
        self._recorded.clear()
        self._warming.clear()
        self._step.classifier.drop_kept()

    def _host_state(self) -> Hashable:
        """State on the host that a step may depend on."""
        method = self._step.classifier.method
        state = MethodState(method)
        return state.values, state.addresses, tuple(parameter.requires_grad for parameter in method.parameters())


@dataclass
class _WarmUp:
    """Eager steps of a batch shape so far, and the graph that will be captured."""

    graph: Graph
    steps: int = 0


class _Recording:
    """A captured step with its input tensors and the cached tensors it reads."""

    def __init__(self, step: TrainingStep, graph: Graph, images: Tensor, labels: Tensor):
        self.graph = graph
        self._images, self._labels = images.clone(), labels.clone()
        self._kept = step.classifier.kept()  # a dropped cache entry would leave the graph reading freed memory
        self._numbers = graph.capture(lambda: step(self._images, self._labels))
        if {id(value) for value in step.classifier.kept()} != {id(value) for value in self._kept}:
            # Nothing runs during a capture, so what was put into the cache then has no values.
            raise ValueError("its frozen activations do not fit into the cache")

    def replay(self, images: Tensor, labels: Tensor) -> StepNumbers:
        """Run the step on other images and labels of the same shape."""
        self._images.copy_(images, non_blocking=True)
        self._labels.copy_(labels, non_blocking=True)
        self.graph.replay()
        return self._numbers


class _Trial:
    """A replay whose effects are undone when the context ends, to be compared with an eager step."""

    def __init__(self, step: TrainingStep, recording: _Recording):
        self._step = step
        self._graph = recording.graph

    def __enter__(self) -> _Trial:
        self._before = [tensor.clone() for tensor in self._tensors()]
        self._random = self._graph.random_state()
        return self

    def __exit__(self, *_: object) -> None:
        self._after = [tensor.clone() for tensor in self._tensors()]
        with torch.no_grad():
            for tensor, value in zip(self._tensors(), self._before, strict=True):
                tensor.copy_(value)
        self._graph.set_random_state(self._random)

    def replayed(self, numbers: StepNumbers) -> None:
        """Keep what the replay computed."""
        self._loss = numbers.loss.clone()

    def difference(self, eager: StepNumbers) -> float:
        """Largest relative difference between the replay and an eager step that has just been run."""
        pairs = [(self._loss, eager.loss)]
        changed = [
            (after.double() - before.double(), now.double() - before.double())
            for after, before, now in zip(self._after, self._before, self._tensors(), strict=True)
            if now.is_floating_point()
        ]
        pairs += [(_flat([a for a, _ in changed]), _flat([b for _, b in changed]))] if changed else []
        return max(_relative(replayed.double(), found.double()) for replayed, found in pairs)

    def _tensors(self) -> list[Tensor]:
        method = self._step.classifier.method
        return [t.detach() for t in (*method.parameters(), *method.buffers(), *self._step.trainer.tensors())]


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _relative(found: Tensor, expected: Tensor) -> float:
    if not bool(found.isfinite().all()) or not bool(expected.isfinite().all()):
        return 0.0 if torch.equal(found.nan_to_num(), expected.nan_to_num()) else float("inf")
    size = float(expected.norm())
    return float((found - expected).norm()) / size if size else float(found.norm())
