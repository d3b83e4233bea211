"""What is registered and in what state, without importing torch or any plugin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vlmadapt import registry
from vlmadapt.errors import PluginError, unknown
from vlmadapt.registry import Plugin
from vlmadapt.registry.card import Facts

OK = "ok"


@dataclass(frozen=True)
class PluginCard:
    """What can be said of a plugin without importing it.

    Attributes:
        kind: method, data set or backbone.
        name: registered name.
        distribution: the distribution that provides it.
        version: of the distribution.
        entry_point: `module:name`.
        status: `ok`, or `broken: ...`, `incompatible: ...`, `clash: ...` with what is wrong in one line.
        facts: what its source says, None where it cannot be read.
    """

    kind: str
    name: str
    distribution: str
    version: str
    entry_point: str
    status: str
    facts: Facts | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "facts": None if self.facts is None else vars(self.facts)}


def list_plugins(kind: str | None = None) -> list[PluginCard]:
    """A card of each registered plugin; nothing that a plugin does wrong is raised."""
    cards = [
        _card(plugin, clashing)
        for group, name in registry.KIND.items()
        if kind in (None, name)
        for plugins in [registry.plugins(group)]
        for clashing in [_clashes(plugins)]
        for plugin in plugins
    ]
    damaged = [
        PluginCard("?", "?", name, "?", "?", "broken: its entry_points.txt cannot be read", None)
        for name in registry.unreadable()
    ]
    return cards + damaged


def plugin_card(name: str, kind: str | None = None) -> tuple[Plugin, PluginCard]:
    """One plugin by name, or by `distribution:name`.

    Raises:
        PluginError: there is none, several distributions provide it, or it is the name of things of several kinds.
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
    return plugin, _card(plugin, {})


def _card(plugin: Plugin, clashing: dict[str, list[Plugin]]) -> PluginCard:
    facts, status = None, OK
    try:
        facts = plugin.facts()
        if facts and facts.api_version is not None and plugin.kind == registry.KIND[registry.METHODS]:
            plugin.check_api(facts.api_version)
    except PluginError as error:
        if registry.strict():
            raise
        status = f"broken: {error}" if facts is None else f"incompatible: {error}"
    others = [p for p in clashing.get(plugin.name, ()) if p.distribution != plugin.distribution]
    if others and status == OK:
        owners = " and ".join(f"'{p.distribution}'" for p in others)
        status = f"clash: {owners} has this name too; write '{plugin.distribution}:{plugin.name}'"
    return PluginCard(
        plugin.kind, plugin.name, plugin.distribution, plugin.version, plugin.entry_point.value, status, facts
    )


def _clashes(plugins: list[Plugin]) -> dict[str, list[Plugin]]:
    by_name: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        by_name.setdefault(plugin.name, []).append(plugin)
    return by_name
