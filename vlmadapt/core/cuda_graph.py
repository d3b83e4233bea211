"""CUDA graphs: record what a function launches on a GPU once, and launch it again as a whole."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Graph(Protocol):
    """A recording of a function; a stand-in takes its place in tests without a GPU."""

    def warm_up(self) -> AbstractContextManager[object]:
        """Where the function runs before the capture."""

    def capture(self, function: Callable[[], T]) -> T:
        """Record a function without running it; its results are tensors that each replay fills."""

    def replay(self) -> None:
        """Run the recorded function."""

    def random_state(self) -> Tensor | None:
        """State of the random numbers that a replay draws from."""

    def set_random_state(self, state: Tensor | None) -> None:
        """Restore `random_state`."""


class CudaGraph:
    """A CUDA graph with memory of its own.

    Errors of other threads do not end a capture ("thread_local"): the loader's thread pins memory at any time.
    """

    def __init__(self) -> None:
        self._graph = torch.cuda.CUDAGraph()
        self._stream = torch.cuda.Stream()

    def warm_up(self) -> AbstractContextManager[object]:
        """A side stream, after and before everything on the current one."""
        return _on_side_stream(self._stream)

    def capture(self, function: Callable[[], T]) -> T:
        """Record a function."""
        gc.collect()  # cycles of the warm-up hold device memory
        current = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(self._graph, stream=self._stream, capture_error_mode="thread_local"):
                return function()
        except BaseException:
            _leave_failed_capture(current)
            raise

    def replay(self) -> None:
        """Run the recorded function."""
        self._graph.replay()

    def random_state(self) -> Tensor | None:
        """State of the device's generator."""
        return torch.cuda.get_rng_state()

    def set_random_state(self, state: Tensor | None) -> None:
        """Restore `random_state`."""
        if state is not None:
            torch.cuda.set_rng_state(state)


def first_cause(error: BaseException) -> BaseException:
    """The first error: leaving a capture that has failed raises another one, which says less."""
    while error.__context__ is not None:
        error = error.__context__
    return error


@contextmanager
def _on_side_stream(stream: torch.cuda.Stream) -> Iterator[None]:
    current = torch.cuda.current_stream()
    stream.wait_stream(current)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        current.wait_stream(stream)


def _leave_failed_capture(current: torch.cuda.Stream) -> None:
    """Go back to the stream that was current; torch stays on the capture's, and its generator in the capture."""
    torch.cuda.set_stream(current)
    generator = torch.cuda.default_generators[current.device_index]
    generator.graphsafe_set_state(generator.clone_state())
