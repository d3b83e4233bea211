"""Number of trainable parameters of each method."""

from __future__ import annotations

from dataclasses import dataclass

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.build import build_method, method_class
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import Task, trainable_count
from vlmadapt.errors import VlmadaptError
from vlmadapt.registry.listing import PluginInfo, list_plugins
from vlmadapt.registry.tracks import FEW_SHOT

TASK = Task(tuple(f"class {i}" for i in range(10)), ("a photo of a {}.",))


@dataclass(frozen=True)
class MethodInfo:
    """A method in a list with its parameter count.

    Attributes:
        name: registered name.
        distribution: distribution that provides the method, with its version.
        summary: first line of the method's docstring, or why it is broken.
        parameters: number of trainable scalars with default options; None if it depends on data.
        broken: True if the method cannot be used.
        track: what it uses besides labelled images, see `Method.track`.
    """

    name: str
    distribution: str
    summary: str
    parameters: int | None
    broken: bool = False
    track: str = FEW_SHOT


def list_methods(architecture: str) -> list[MethodInfo]:
    """All registered methods with their parameter counts; errors of a plugin are shown and not raised."""
    backbone = untrained(architecture)
    return [_counted(plugin, backbone) for plugin in list_plugins("method")]


def _counted(plugin: PluginInfo, backbone: Backbone) -> MethodInfo:
    name, origin = f"{plugin.distribution}:{plugin.name}", f"{plugin.distribution} {plugin.version}"
    try:
        method = method_class(name)
        lines = (method.__doc__ or "").strip().splitlines()
    except VlmadaptError as error:
        return MethodInfo(plugin.name, origin, f"broken: {error}", None, broken=True)
    try:
        parameters: int | None = trainable_count(build_method(name, backbone, TASK))
    except Exception:  # a plugin may need weights or data to be built; its count is then unknown
        parameters = None
    return MethodInfo(plugin.name, origin, lines[0] if lines else "", parameters, track=method.track)
