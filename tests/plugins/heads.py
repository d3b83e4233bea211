"""Methods on cached features, prepared on the few labelled images of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tests import small
from tests.parity.tiny_clip import inputs
from tests.plugins.few_shot import FewShots
from tests.plugins.prompt_methods import LABELS, TEMPLATE, backbone, build
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import Method
from vlmadapt.core.templates import Template

TEMPLATES = (TEMPLATE, "itap of a {}.")


@torch.no_grad()
def prepared(name: str, support: dict[str, Any] | None = None, **options: Any) -> Any:
    method = build(name, **options)
    method.prepare(FewShots(method, **(support or {})))
    return method


def asked(
    method: Method, names: Sequence[str] = small.NAMES, templates: Sequence[str] = TEMPLATES, images: int = 4
) -> ForwardPass:
    """A labelled batch of four images against classes described by several templates."""
    pixels = inputs(1, len(LABELS), 16)[:images]
    labels = torch.tensor(LABELS)[:images]
    return ForwardPass(Engine(backbone()), method, names, [Template.parse(t) for t in templates], pixels, labels)
