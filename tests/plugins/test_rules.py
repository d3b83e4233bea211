"""Every rule of the plan, for every method: what it leaves out changes no loss, no score and no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from functools import cache

import pytest
import torch
from torch import Tensor

from tests.small import FEWER_TEXTS
from vlmadapt import Backbone, registry
from vlmadapt.core import cost, run_tower
from vlmadapt.core.backbone.precision import DTYPES
from vlmadapt.core.method import Method, total, trainable_count
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.recipe import Precision
from vlmadapt.roles import SEEN
from vlmadapt.testing import MethodUnderTest, tiny_clip

FLOAT32 = 1e-5
"""Bound on the norm of a difference, as a part of the norm of what is compared."""

HALF = 1e-2
"""Distances from float32 that are as good as none: about two units in the last place of a bfloat16."""

SWITCHED = 3e-2
"""The same in float16, where a rectifier whose input is rounded to the other side of zero is what differs most."""

LOSS_SCALE = 1024.0
"""Of the backward pass, as in training: smaller gradients would be zero in float16."""

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]
FEW = {"mmrl", "mmrl++", "coop", "maple", "clip-lora", "2sfs", "plot", "tip-adapter-f", "hicropl"}
"""One of each kind of hooks; the others are slow tests where another one is close to it."""
SOME = [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
SINGLE = [f"planned-{field.name.replace('_', '-')}" for field in fields(Optimizations)]
# Each optimisation by itself is tested in tests/core/test_engine.py, for every shape of hook and in float64.
PLANS = ["planned", *(pytest.param(plan, marks=pytest.mark.slow) for plan in SINGLE)]


@cache
def subject(name: str) -> MethodUnderTest:
    return MethodUnderTest(name, FEWER_TEXTS.get(name))


def outcome(subject: MethodUnderTest, method: Method, plan: str, scale: float = 1.0) -> dict[str, Tensor]:
    """Loss, gradients and scores of a trained method, in evaluation mode: dropout would draw differently.

    The loss is scaled for the backward pass, against gradients too small for float16.
    """
    classifier = subject.classifier(method.eval(), plan)
    shots = subject.shots()
    found = {"scores": subject.scores(classifier)}
    parameters = {name: p for name, p in method.named_parameters() if p.requires_grad}
    if parameters:
        torch.manual_seed(0)  # what a method draws is the same
        loss = total(method.losses(classifier.forward(shots.images[:4], shots.names, shots.labels[:4])))
        gradients = torch.autograd.grad(scale * loss.float(), list(parameters.values()), allow_unused=True)
        found |= {f"gradient of {n}": g / scale for n, g in zip(parameters, gradients, strict=True) if g is not None}
        found["loss"] = loss.detach()
    return found


def differences(expected: dict[str, Tensor], found: dict[str, Tensor]) -> Iterator[tuple[str, float]]:
    """Relative to the largest of its kind: a gradient that is nearly zero compared to the others is all rounding."""
    assert found.keys() == expected.keys()
    largest = max((float(v.norm()) for k, v in expected.items() if k.startswith("gradient")), default=0.0)
    for name, value in expected.items():
        scale = largest if name.startswith("gradient") else float(value.norm())
        yield name, float((found[name].float() - value.float()).norm()) / scale


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", SOME)
def test_in_float32(name: str, plan: str) -> None:
    method = subject(name).trained.method
    expected = outcome(subject(name), method, "reference")
    for what, difference in differences(expected, outcome(subject(name), method, plan)):
        assert difference <= FLOAT32, what


BUCKETS = cost.TOKENS_PER_KERNEL, 0.0
"""A bucket for each length, where the few classes here would all go into one."""
TILES = cost.QUERIES_PER_TILE, 64
"""Sequences that attend together, as on a GPU, with a shared prefix or without."""


@pytest.mark.parametrize("costs", [pytest.param(BUCKETS, marks=pytest.mark.slow), TILES], ids=["buckets", "tiles"])
@pytest.mark.parametrize("name", SOME)
def test_at_other_costs(name: str, costs: tuple[dict[str, float], float], monkeypatch: pytest.MonkeyPatch) -> None:
    method = subject(name).trained.method
    expected = outcome(subject(name), method, "reference")
    monkeypatch.setitem(costs[0], "cpu", costs[1])
    for what, difference in differences(expected, outcome(subject(name), method, "planned")):
        assert difference <= FLOAT32, what


@pytest.mark.parametrize("name", SOME)
def test_scores_after_a_step_run_no_block(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The training accuracy is read off what the step has computed."""
    method, shots = subject(name).trained.method.train(), subject(name).shots()
    if not trainable_count(method):
        pytest.skip("nothing is trained step by step")
    x = subject(name).classifier(method, "planned").forward(shots.images[:4], shots.names, shots.labels[:4])
    list(method.losses(x))
    for run in ("run_block", "run_last_block"):
        monkeypatch.setattr(run_tower, run, lambda *_: pytest.fail("a block was run again"))
    with torch.no_grad():
        method.route(x, SEEN)


DECIDE = {
    "zero": "its scores are votes, of which one switches or none does",
    "tda": "the most probable class decides what an image adds to the cache, and an image near a tie switches",
}
"""Methods whose scores jump where rounding turns a decision."""


def rounding(exact: dict[str, Tensor], rounded: dict[str, Tensor]) -> dict[str, float]:
    """How far scores, loss and gradient (all parameters as one vector) are from those in float32."""
    gradient = [name for name in exact if name.startswith("gradient")]
    groups = {name: [name] for name in exact if name not in gradient} | ({"gradient": gradient} if gradient else {})
    flat = {
        group: [torch.cat([of[name].float().flatten() for name in names]) for of in (exact, rounded)]
        for group, names in groups.items()
    }
    return {group: float((found - true).norm() / true.norm()) for group, (true, found) in flat.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_in_bfloat16(name: str) -> None:
    """The plans round in different places, so they need not agree, but have to be equally near to float32."""
    if name in DECIDE:
        pytest.skip(DECIDE[name])
    method = subject(name).trained.method
    exact = outcome(subject(name), method, "reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reference, planned = (
            rounding(exact, outcome(subject(name), method, plan)) for plan in ("reference", "planned")
        )
    if "loss" in reference:  # a single number may be near by luck; it follows from the scores, which are many
        reference["loss"] = max(reference["loss"], reference["scores"])
    for what, distance in planned.items():
        assert distance <= 2 * reference[what] + HALF, what


@cache
def held_in(dtype: torch.dtype) -> Backbone:
    return tiny_clip.__wrapped__().hold_weights_in(dtype)


@pytest.mark.slow
@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", METHODS)
def test_a_whole_fit_with_frozen_weights_in_half_precision(name: str, precision: Precision) -> None:
    """As `fit` on a GPU: prepare, train, finish and answer, with trained tensors in float32."""
    tested = MethodUnderTest(name, backbone=held_in(DTYPES[precision]), precision=DTYPES[precision])
    classifier = tested.fit(precision=precision)
    scores = tested.scores(classifier)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    assert {parameter.dtype for parameter in classifier.method.parameters()} <= {torch.float32}


@pytest.mark.parametrize(
    "dtype", [pytest.param(torch.bfloat16, marks=pytest.mark.slow), torch.float16], ids=["bfloat16", "float16"]
)
@pytest.mark.parametrize("name", SOME)
def test_with_frozen_weights_in_half_precision(name: str, dtype: torch.dtype) -> None:
    """As on a GPU: frozen weights in half precision are as near to float32 as casting them at each use."""
    if name in DECIDE:
        pytest.skip(DECIDE[name])
    method = subject(name).trained.method
    exact = outcome(subject(name), method, "reference")
    cast_at_use, held = (
        rounding(
            exact, outcome(MethodUnderTest(name, backbone=weights, precision=dtype), method, "planned", LOSS_SCALE)
        )
        for weights in (tiny_clip(), held_in(dtype))
    )
    if "loss" in held:
        cast_at_use["loss"] = max(cast_at_use["loss"], cast_at_use["scores"])
    for what, distance in held.items():
        assert distance <= 2 * cast_at_use[what] + (HALF if dtype is torch.bfloat16 else SWITCHED), what
