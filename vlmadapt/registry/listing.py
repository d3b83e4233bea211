"""List of registered plugins and their state, without importing torch or any plugin."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from vlmadapt import registry
from vlmadapt.errors import PluginError, unknown
from vlmadapt.registry import Plugin
from vlmadapt.registry.entry_points import API_VERSION, UPDATE
from vlmadapt.registry.source_info import SourceInfo

OK = "ok"


@dataclass(frozen=True)
class PluginInfo:
    """A registered plugin and its state.

    Attributes:
        kind: method, data set, backbone or table of published numbers.
        name: registered name.
        distribution: distribution that provides the plugin.
        version: version of the distribution.
        entry_point: location of the code, `module:name`.
        status: `ok`, or `broken: ...`, `incompatible: ...`, `clash: ...` with the reason in one line.
        source: what the source states; None if it cannot be read.
    """

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: str
    status: str
    source: SourceInfo | None

    @property
    def note(self) -> str:
        """What the author should change, '' if nothing."""
        version = self.source.api_version if self.source else None
        if version is None or version >= API_VERSION or self.kind != registry.KIND[registry.METHODS]:
            return ""
        return f"'{self.name}' is written for plugin API {version}, which still works; write {UPDATE}."

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "note": self.note}


def list_plugins(kind: str | None = None) -> list[PluginInfo]:
    """All registered plugins; errors of a plugin are its status and are not raised."""
    found = []
    for group, name in registry.KIND.items():
        if kind in (None, name):
            plugins = registry.plugins(group)
            found += [_info(plugin, plugins) for plugin in plugins]
    damaged = [
        PluginInfo("?", "?", name, "?", "?", "broken: its entry_points.txt cannot be read", None)
        for name in registry.unreadable()
    ]
    return found + damaged


def plugin_info(name: str, kind: str | None = None) -> tuple[Plugin, PluginInfo]:
    """One plugin by name, or by `distribution:name`.

    Raises:
        PluginError: there is none, several distributions provide it, or several kinds of plugin have this name.
    """
    groups = [group for group, each in registry.KIND.items() if kind in (None, each)]
    known = {group: {p.name for p in registry.plugins(group)} for group in groups}
    short = name.partition(":")[2] or name
    holding = [group for group in groups if short in known[group]]
    if len(holding) > 1:
        kinds = " and of a ".join(registry.KIND[group] for group in holding)
        raise PluginError(f"'{name}' is the name of a {kinds}; say which with --kind.")
    if not holding and len(groups) > 1:
        raise PluginError(unknown("plugin", name, set().union(*known.values())))
    plugin = registry.find((holding or groups)[0], name)
    return plugin, _info(plugin, ())


def _info(plugin: Plugin, others: Iterable[Plugin]) -> PluginInfo:
    source, status = None, OK
    try:
        source = plugin.source_info()
        if source and source.api_version is not None and plugin.kind == registry.KIND[registry.METHODS]:
            plugin.check_api(source.api_version)
    except PluginError as error:
        if registry.strict():
            raise
        status = f"broken: {error}" if source is None else f"incompatible: {error}"
    owners = " and ".join(
        f"'{p.distribution}'" for p in others if p.name == plugin.name and p.distribution != plugin.distribution
    )
    if owners and status == OK:
        status = f"clash: {owners} has this name too; write '{plugin.distribution}:{plugin.name}'"
    return PluginInfo(
        plugin.kind, plugin.name, plugin.distribution, plugin.version, plugin.entry_point.value, status, source
    )
