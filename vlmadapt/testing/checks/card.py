"""Check the static card, which listings read from the source, against the method itself."""

from __future__ import annotations

from vlmadapt.core.plan import POOLED
from vlmadapt.core.side import IMAGE, TEXT
from vlmadapt.registry.card import read_facts
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest


def card(tested: MethodUnderTest) -> None:
    """Its static card (summary, paper, towers, limitations, plugin API) is correct."""
    cls = tested.cls
    facts = read_facts(f"{cls.__module__}:{cls.__qualname__}") if "<locals>" not in cls.__qualname__ else None
    if facts is None:
        raise NotApplicable("its source cannot be read")
    if not facts.summary:
        raise CheckFailed("it has no docstring.", "say in the first line what it does; listings show that line.")
    stated = {
        "paper": (facts.paper, cls.paper),
        "touches": (set(facts.touches), {side.value for side in cls.touches}),
        "limitations": (facts.limitations, dict(cls.limitations)),
        "api_version": (facts.api_version or cls.api_version, cls.api_version),
    }
    for name, (read, real) in stated.items():
        if read != real:
            raise CheckFailed(f"`{name}` reads {read!r} in the source, but is {real!r}.")
    for side in sorted(_touched(tested) - set(cls.touches)):
        raise CheckFailed(
            f"it works inside the {side} tower and does not say so.",
            f"put {side.upper()} into `touches`: a backbone without access to that tower is then refused at once.",
        )


def _touched(tested: MethodUnderTest) -> set[str]:
    plan = tested.trained.forward(tested.shots().images[:1], ("cat",)).plan
    towers = ((TEXT, plan.text, tested.backbone.text), (IMAGE, plan.image, tested.backbone.image))
    return {side for side, tower, frozen in towers if tower.first < frozen.depth or set(tower.heads) - {POOLED}}
