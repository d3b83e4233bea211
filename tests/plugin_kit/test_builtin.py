"""Every built-in method passes the conformance kit that other methods have to pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.small import FEWER_TEXTS
from vlmadapt import registry
from vlmadapt.testing import MethodUnderTest, NotApplicable, conformance
from vlmadapt.testing.checks.processes import two_processes

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]


SLOW = {"bf16", "deterministic", "keeps-up", "long-names", "memory", "one-device", "one-image", "plans-agree"}
"""Checks that other tests make in another way, or that take longest."""


WITHOUT_CHANCE = {"gallop": {"replacement": False}}
"""Options with which nothing is drawn once dropout is off: each process draws for its own images."""


def conforming(name: str) -> Callable[..., None]:
    names, params = conformance(name, quick=True, options=FEWER_TEXTS.get(name)).args
    marked = [
        pytest.param(*p.values, id=p.id, marks=(*p.marks, pytest.mark.slow)) if p.id in SLOW else p for p in params
    ]

    @pytest.mark.parametrize(names, marked)
    def test(check: Callable[[], None]) -> None:
        check()

    return test


for method in METHODS:
    globals()[f"test_{method}"] = conforming(method)


def test_options_may_bring_limits_of_their_own() -> None:
    mark = conformance(
        "coop", options={"per_class": True}, expected_failures={"unseen-classes": "a context belongs to its class"}
    )
    failing = [param.id for param in mark.args[1] if param.marks]
    assert failing == ["unseen-classes"]


@pytest.mark.processes
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "mmrl++" else pytest.mark.slow) for name in METHODS]
)
def test_two_processes(name: str) -> None:
    try:
        two_processes(MethodUnderTest(name, {**FEWER_TEXTS.get(name, {}), **WITHOUT_CHANCE.get(name, {})}))
    except NotApplicable as reason:
        pytest.skip(str(reason))
