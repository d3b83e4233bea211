"""Batches are brought to the device in order, and waiting for the loader is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from vlmadapt.data.feed import AHEAD, Feed
from vlmadapt.data.loader import Batch


def batches(count: int, seconds: float = 0.0) -> Iterator[Batch]:
    for number in range(count):
        time.sleep(seconds)
        yield Batch(torch.full((2, 3, 4, 4), float(number)), torch.tensor([number, 0]), torch.arange(2), 2)


def test_batches_come_as_they_are() -> None:
    found = list(Feed(torch.device("cpu"))(batches(3)))
    assert [float(batch.images.mean()) for batch in found] == [0, 1, 2]
    assert [batch.labels.tolist() for batch in found] == [[0, 0], [1, 0], [2, 0]]


def test_waiting_for_the_loader_is_measured_and_computing_is_not() -> None:
    feed = Feed(torch.device("cpu"))
    for _ in feed(batches(3, seconds=0.02)):
        time.sleep(0.1)
    assert 0.06 <= feed.waited < 0.2


class Event:
    """A stand-in for a CUDA event."""

    waited: list[int]

    def __init__(self, number: int):
        self.number = number

    def synchronize(self) -> None:
        self.waited.append(self.number)


class Stream:
    """A stand-in for a CUDA stream, on which nothing has to be waited for."""

    made = 0

    def wait_stream(self, other: Stream) -> None:
        pass

    def record_event(self) -> Event:
        Stream.made += 1
        return Event(Stream.made)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_the_host_is_a_few_batches_ahead_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a loader that is faster than the device would fill its memory with images."""
    stream = Stream()
    made: list[Stream] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(stream) or stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda given: given)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, given: None)
    Stream.made, Event.waited = 0, []
    feed = Feed(torch.device("cpu"))
    launched = [Stream.made - (Event.waited or [0])[-1] for _ in feed._overlapped(batches(6))]
    assert launched == [0, 1, *[AHEAD] * 4]
    list(feed._overlapped(batches(2)))
    assert len(made) == 1, "each stream would hold memory of its own"
