"""Reading a value is free on the CPU alone, and there not while a GPU is imitated."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.host_reads import like_a_gpu, reads_are_free

CPU = torch.device("cpu")


def test_reading_is_free_on_the_cpu_alone() -> None:
    assert reads_are_free(CPU)
    assert not reads_are_free(torch.device("cuda"))
    assert not reads_are_free(torch.device("meta"))


def test_a_gpu_is_imitated_until_the_context_ends_even_by_an_error() -> None:
    with pytest.raises(ZeroDivisionError), like_a_gpu():
        assert not reads_are_free(CPU)
        _ = 1 / 0
    assert reads_are_free(CPU)
