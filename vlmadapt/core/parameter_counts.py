"""How many parameters each method trains."""

from __future__ import annotations

from dataclasses import dataclass

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.build import build_method, method_class
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import Task, trainable_count
from vlmadapt.errors import VlmadaptError
from vlmadapt.registry.listing import PluginCard, list_plugins

TASK = Task(tuple(f"class {i}" for i in range(10)), ("a photo of a {}.",))


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
    return [_counted(card, backbone) for card in list_plugins("method")]


def _counted(card: PluginCard, backbone: Backbone) -> Card:
    name, origin = f"{card.distribution}:{card.name}", f"{card.distribution} {card.version}"
    try:
        lines = (method_class(name).__doc__ or "").strip().splitlines()
    except VlmadaptError as error:
        return Card(card.name, origin, f"broken: {error}", None, broken=True)
    try:
        parameters: int | None = trainable_count(build_method(name, backbone, TASK))
    except Exception:  # a plugin may need weights or data to be built; its count is then unknown
        parameters = None
    return Card(card.name, origin, lines[0] if lines else "", parameters)
