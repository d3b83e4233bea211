"""Runs that share a backbone and image features in one process give the same files as runs alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.world import World, outcome
from vlmadapt import fit
from vlmadapt.core.classifier import Classifier
from vlmadapt.data.loader import Batch
from vlmadapt.runs.shared import Shared

RUNS = [("clip", 1), ("tip-adapter-f", 1), ("gda-unseen", 1), ("lp++", 2), ("clap", 2), ("coop", 2), ("clip", 2)]


def test_shared_runs_are_bit_for_bit_those_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World.make(tmp_path)
    encoded: list[int] = []
    encode = Classifier.encode

    def counted(classifier: Classifier, images: torch.Tensor) -> torch.Tensor:
        encoded.append(len(images))
        return encode(classifier, images)

    monkeypatch.setattr(Classifier, "encode", counted)
    shared = Shared()
    for method, seed in RUNS:
        both = [tmp_path / f"{method}-{seed}-{kind}" for kind in ("alone", "shared")]
        fit(world.settings(both[0], method, seed=seed))
        encoded.clear()
        fit(world.settings(both[1], method, seed=seed), shared=shared)
        assert outcome(both[0]) == outcome(both[1])
        assert (both[0] / "answers.json").read_bytes() == (both[1] / "answers.json").read_bytes()
    assert encoded == []  # the last run tests what the first one did


def encoding(*sizes: int) -> Callable[[], Iterator[Batch]]:
    """A function that encodes batches of these sizes."""
    return lambda: (Batch(torch.ones(n, 4), torch.zeros(n), torch.arange(n), n) for n in sizes)


def test_outputs_are_kept_up_to_a_limit() -> None:
    shared = Shared(limit=200)  # twelve images of 16 bytes
    for key, sizes in (("a", (4, 4)), ("large", (8, 8)), ("b", (4,))):
        assert len(list(shared.encoded(key, encoding(*sizes)))) == len(sizes)
    assert shared.seconds("a") > 0 and shared.seconds("b") > 0 and shared.seconds("large") == 0
    list(shared.encoded("a", encoding()))  # used again, so that `b` is the oldest
    list(shared.encoded("c", encoding(2)))
    assert shared.seconds("a") > 0 and shared.seconds("b") == 0


def test_an_interrupted_encoding_is_not_kept() -> None:
    shared = Shared()
    next(shared.encoded("a", encoding(4, 4)))
    assert shared.seconds("a") == 0
