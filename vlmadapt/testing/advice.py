"""Performance hints: which optimisations of the engine a method's hooks rule out."""

from __future__ import annotations

from vlmadapt.core.hooks import Per, Read
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.testing.data import CLASSES
from vlmadapt.testing.under_test import MethodUnderTest


def advice(tested: MethodUnderTest) -> list[str]:
    """One sentence for each optimisation that the method rules out."""
    plan = tested.trained.forward(tested.shots().images[:1], CLASSES).plan
    found = [_frozen_layers(side, plan.tower(side).first) for side in (TEXT, IMAGE)]
    text = plan.text.injections
    own = [i.layers[layer].per for i in text for layer in i.layers]
    if Per.IMAGE in own:
        found.append("keep_text: text tokens differ by image, so every text is encoded again for every image.")
    if Per.CLASS in own and plan.text.first <= 0:
        found.append("shared_prefix: text tokens differ by class from the first block on, so no prefix is shared.")
    if any(t.text.startswith("{}") for t in plan.prompts):
        found.append("shared_prefix: a template begins with the class name, so there is no prefix to share.")
    if plan.text.mixes:
        found.append("pack, truncate, shared_prefix: a branch mixes the tokens of a text, so its whole context is run.")
    if Read.ALL in plan.image.reads or Read.ALL in plan.text.reads:
        found.append("read_tokens: a head reads all tokens, so the last block runs on all of them.")
    return [line for line in found if line]


def _frozen_layers(side: Side, first: int) -> str:
    if first > 0:
        return ""
    return (
        f"frozen_layers: the {side} tower is touched from its first block on, so no layer of it can be cached; "
        "try whether a later layer does as well."
    )
