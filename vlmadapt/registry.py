"""Plugins are found through entry points, one at a time, and a broken one takes nothing down."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vlmadapt.errors import PluginError, unknown

METHODS = "vlmadapt.methods"
DATASETS = "vlmadapt.datasets"
BACKBONES = "vlmadapt.backbones"

KIND = {METHODS: "method", DATASETS: "data set", BACKBONES: "backbone"}


@dataclass(frozen=True)
class Plugin:
    """A registered name and the distribution that provides it; nothing of it is imported yet."""

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    def load(self) -> Any:
        """Import the plugin.

        Raises:
            PluginError: its import failed; the message names the plugin, its distribution and the cause.
        """
        try:
            return self.entry_point.load()
        except Exception as error:
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            kind = KIND.get(self.entry_point.group, "plugin")
            raise PluginError(
                f"{kind} '{self.name}' from distribution '{self.distribution} {self.version}' is broken: {cause}"
            ) from error


def plugins(group: str) -> list[Plugin]:
    """All registered plugins of a group, sorted by name, without importing any of them."""
    found = []
    for entry in entry_points(group=group):
        dist = entry.dist
        found.append(Plugin(entry.name, dist.name if dist else "unknown", dist.version if dist else "?", entry))
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def find(group: str, name: str) -> Plugin:
    """The plugin called `name`, or `distribution:name` where two distributions use the same name.

    Raises:
        PluginError: no such plugin (the nearest name is suggested), or several distributions provide it.
    """
    registered = plugins(group)
    matches = [p for p in registered if name in (p.name, f"{p.distribution}:{p.name}")]
    if not matches:
        raise PluginError(unknown(KIND[group], name, {p.name for p in registered}))
    if len(matches) > 1:
        owners = " and ".join(f"'{p.distribution}'" for p in matches)
        example = f"{matches[0].distribution}:{matches[0].name}"
        raise PluginError(f"{KIND[group]} '{name}' is provided by {owners}; write '{example}' to say which one.")
    return matches[0]
