"""What one more kernel costs, in tokens."""

from __future__ import annotations

import pytest

from vlmadapt.core import cost


def test_costs_are_kernels_times_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "TOKENS_PER_KERNEL", {"cpu": 2.0, "cuda": 10.0})
    monkeypatch.setattr(cost, "BUCKET_KERNELS", 5)
    monkeypatch.setattr(cost, "PREFIX_KERNELS", 3)
    assert (cost.bucket_cost("cpu"), cost.prefix_cost("cpu")) == (10.0, 6.0)
    assert (cost.bucket_cost("cuda"), cost.prefix_cost("cuda")) == (50.0, 30.0)


def test_every_accelerator_counts_as_a_gpu_and_no_device_as_a_cpu() -> None:
    assert cost.bucket_cost("mps") == cost.bucket_cost("xpu") == cost.bucket_cost("cuda")
    assert cost.bucket_cost("meta") == cost.bucket_cost("cpu")


def test_a_kernel_costs_far_more_on_a_gpu() -> None:
    assert cost.bucket_cost("cuda") > 100 * cost.bucket_cost("cpu")
    assert cost.prefix_cost("cuda") > 100 * cost.prefix_cost("cpu") > 0
