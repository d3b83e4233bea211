"""Plugins are found through entry points, one at a time, and a broken one takes nothing down.

Two variables of the environment decide what is found and how mistakes show:

    VLMADAPT_PLUGINS=off        only what comes with vlmadapt itself
    VLMADAPT_PLUGINS=a,b        of other distributions, only these (names of distributions or of plugins)
    VLMADAPT_STRICT=1           a plugin that fails to import raises its own error instead of a sentence
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints, distributions, entry_points
from typing import Any

from vlmadapt.errors import PluginError, unknown
from vlmadapt.registry.card import Facts, read_facts

METHODS = "vlmadapt.methods"
DATASETS = "vlmadapt.datasets"
BACKBONES = "vlmadapt.backbones"
PUBLISHED = "vlmadapt.published"

KIND = {METHODS: "method", DATASETS: "data set", BACKBONES: "backbone", PUBLISHED: "table of published numbers"}

API_VERSION = 2
"""Version of the plugin API. It goes up when a plugin written for the one before may break."""

SUPPORTED_APIS = range(1, API_VERSION + 1)
"""Versions of the plugin API whose plugins still work."""

OWN = "vlmadapt"
ONLY, STRICT = "VLMADAPT_PLUGINS", "VLMADAPT_STRICT"


@dataclass(frozen=True)
class Plugin:
    """A registered name and the distribution that provides it; nothing of it is imported yet."""

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def kind(self) -> str:
        """What it is, for people."""
        return KIND.get(self.entry_point.group, "plugin")

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' from distribution '{self.distribution} {self.version}'"

    def facts(self) -> Facts | None:
        """What its source says of it, None where there is none.

        Raises:
            PluginError: its source is broken; the message is the cause alone.
        """
        return read_facts(self.entry_point.value.partition(" ")[0])

    def load(self) -> Any:
        """Import the plugin.

        Raises:
            PluginError: it was written for another plugin API, or its import failed; the message names the plugin, its
                distribution and the cause.
        """
        self._check_stated_api()
        try:
            return self.entry_point.load()
        except (Exception, SystemExit) as error:
            if strict():
                raise
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            raise PluginError(f"{self} is broken: {cause}") from error

    def check_api(self, version: object) -> None:
        """See that this vlmadapt has the plugin API that the plugin was written for.

        Raises:
            PluginError: it has not; the message says what to install.
        """
        if version in SUPPORTED_APIS:
            return
        here = "-".join(str(v) for v in dict.fromkeys((SUPPORTED_APIS[0], SUPPORTED_APIS[-1])))
        newer, older = "vlmadapt", f"'{self.distribution}'"
        if not isinstance(version, int) or version < SUPPORTED_APIS[0]:
            newer, older = older, newer
        raise PluginError(
            f"{self} was written for plugin API {version}, this vlmadapt supports {here}: install a newer version of "
            f"{newer}, or an older one of {older}."
        )

    def _check_stated_api(self) -> None:
        # Before the import, which may fail for the very reason that names of another API are missing here.
        try:
            facts = self.facts()
        except PluginError:
            return
        if facts and facts.api_version is not None:
            self.check_api(facts.api_version)


def strict() -> bool:
    """Whether mistakes of plugins are raised as they are."""
    return os.environ.get(STRICT, "") not in ("", "0")


def plugins(group: str) -> list[Plugin]:
    """All registered plugins of a group that are switched on, sorted by name, without importing any of them."""
    return [plugin for plugin in _registered(group) if _switched_on(plugin)]


def find(group: str, name: str) -> Plugin:
    """The plugin called `name`, or `distribution:name` where two distributions use the same name.

    Raises:
        PluginError: no such plugin (the nearest name is suggested), it is switched off, or several distributions
            provide it.
    """
    registered = plugins(group)
    matches = _called(name, registered)
    if not matches:
        for hidden in _called(name, _registered(group)):
            raise PluginError(f"{hidden} is switched off by {ONLY}={os.environ[ONLY]}.")
        raise PluginError(unknown(KIND[group], name, {p.name for p in registered}))
    if len(matches) > 1:
        owners = " and ".join(f"'{p.distribution}'" for p in matches)
        example = f"{matches[0].distribution}:{matches[0].name}"
        raise PluginError(f"{KIND[group]} '{name}' is provided by {owners}; write '{example}' to say which one.")
    return matches[0]


def unreadable() -> list[str]:
    """Distributions whose entry points cannot be read."""
    try:
        entry_points(group=METHODS)
    except Exception:
        return _by_distribution()[1]
    return []


def missing(name: str, distribution: str, version: str) -> str | None:
    """Why a method that made a run or an adapter cannot be found here; None where it is not for its distribution."""
    if any(plugin.distribution == distribution for plugin in _registered(METHODS)):
        return None
    return (
        f"method '{name}' of the distribution '{distribution} {version}', which is not installed here; "
        f"install it (pip install {distribution})."
    )


def _registered(group: str) -> list[Plugin]:
    found = []
    owners: dict[int, tuple[str, str]] = {}  # one distribution has many entry points, and its metadata are read slowly
    for entry in _entries(group):
        dist = entry.dist
        if id(dist) not in owners:
            owners[id(dist)] = (dist.name, dist.version) if dist else ("unknown", "?")
        found.append(Plugin(entry.name, *owners[id(dist)], entry))
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def _called(name: str, among: list[Plugin]) -> list[Plugin]:
    return [p for p in among if name in (p.name, f"{p.distribution}:{p.name}")]


def _switched_on(plugin: Plugin) -> bool:
    wanted = os.environ.get(ONLY, "").strip()
    if not wanted or plugin.distribution == OWN:
        return True
    return wanted != "off" and bool({plugin.name, plugin.distribution} & {w.strip() for w in wanted.split(",")})


def _entries(group: str) -> EntryPoints:
    try:
        return entry_points(group=group)
    except Exception:  # one distribution's metadata are damaged; those of the others are not
        return _by_distribution()[0].select(group=group)


def _by_distribution() -> tuple[EntryPoints, list[str]]:
    """Entry points of all distributions, and the names of those whose metadata are damaged."""
    found: dict[str, EntryPoints] = {}
    damaged = []
    for dist in distributions():
        name = str(dist.metadata["Name"]) if dist.metadata else "unknown"
        try:
            found.setdefault(name, dist.entry_points)
        except Exception:
            damaged.append(name)
    return EntryPoints(entry for entries in found.values() for entry in entries), damaged
