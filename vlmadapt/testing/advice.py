"""Which rules of the plan a method loses: not wrong, but work that others are spared."""

from __future__ import annotations

from vlmadapt.core.hooks import Per, Read
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.under_test import Subject


def advice(subject: Subject) -> list[str]:
    """A sentence for each rule that its hooks leave no use for."""
    plan = subject.trained.forward(subject.shots().images[:1], CLASSES).plan
    found = [_frozen_layers(side, plan.tower(side).first) for side in (TEXT, IMAGE)]
    text = plan.text.injections
    own = [i.layers[layer].per for i in text for layer in i.layers]
    if Per.IMAGE in own:
        found.append("keep_text: text tokens differ by image, so that all texts run anew for every image.")
    if Per.CLASS in own and plan.text.first <= 0:
        found.append("shared_prefix: text tokens differ by class from the first block on, so that nothing is shared.")
    if any(t.text.startswith("{}") for t in plan.prompts):
        found.append("shared_prefix: a template begins with the class name, so that nothing before it is shared.")
    if Read.ALL in plan.image.reads or Read.ALL in plan.text.reads:
        found.append("read_tokens: a head reads all tokens, so that the last block runs on all of them.")
    return [line for line in found if line]


def _frozen_layers(side: Side, first: int) -> str:
    if first > 0:
        return ""
    return (
        f"frozen_layers: the {side} tower is touched from its first block on, so that none of its layers can be kept; "
        "does a later layer do as well?"
    )
