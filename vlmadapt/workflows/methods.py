"""Which methods there are, and how many parameters they train."""

from __future__ import annotations

from dataclasses import dataclass

from vlmadapt import registry
from vlmadapt.core.backbone.load import untrained
from vlmadapt.core.build import build_method, method_class
from vlmadapt.core.method import Task, trainable_count
from vlmadapt.errors import VlmadaptError


@dataclass(frozen=True)
class Card:
    """What the list says of a method.

    Attributes:
        name: registered name.
        distribution: the distribution that provides it.
        summary: first line of its documentation, or why it is broken.
        parameters: trainable scalars with default options, None where they cannot be counted without data.
        broken: whether it can be used.
    """

    name: str
    distribution: str
    summary: str
    parameters: int | None
    broken: bool = False


def list_methods(architecture: str) -> list[Card]:
    """A card of each registered method; nothing that a plugin does wrong is raised."""
    backbone = untrained(architecture)
    task = Task(tuple(f"class {i}" for i in range(10)), ("a photo of a {}.",))
    cards = []
    for plugin in registry.plugins(registry.METHODS):
        origin = f"{plugin.distribution} {plugin.version}"
        try:
            name = f"{plugin.distribution}:{plugin.name}"
            lines = (method_class(name).__doc__ or "").strip().splitlines()
            summary = lines[0] if lines else ""
        except VlmadaptError as error:
            cards.append(Card(plugin.name, origin, f"broken: {error}", None, broken=True))
            continue
        try:
            parameters: int | None = trainable_count(build_method(name, backbone, task))
        except Exception:  # a plugin may need weights or data to be built; its count is then unknown
            parameters = None
        cards.append(Card(plugin.name, origin, summary, parameters))
    return cards
