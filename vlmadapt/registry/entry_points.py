"""Discovery of plugins through entry points, imported one at a time so that a broken one cannot break the others.

Two environment variables:

    VLMADAPT_PLUGINS=off        find only the plugins that come with vlmadapt
    VLMADAPT_PLUGINS=a,b        find these as well (names of distributions or of plugins), and no others
    VLMADAPT_STRICT=1           raise the error of a plugin that fails to import, not one line about it
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, EntryPoints, distributions, entry_points
from pathlib import Path
from typing import Any

from vlmadapt.deprecated import warn_deprecated
from vlmadapt.errors import PluginError, unknown
from vlmadapt.registry.source_info import SourceInfo, read_source_info
from vlmadapt.text import first_line

METHODS = "vlmadapt.methods"
DATASETS = "vlmadapt.datasets"
BACKBONES = "vlmadapt.backbones"
PUBLISHED = "vlmadapt.published"
LAUNCHERS = "vlmadapt.launchers"
RECIPES = "vlmadapt.recipes"
"""Folders of settings files: the name of a method, and the package whose folder holds its files."""

KIND = {
    METHODS: "method",
    DATASETS: "data set",
    BACKBONES: "backbone",
    PUBLISHED: "table of published numbers",
    LAUNCHERS: "launcher",
}

API_VERSION = 2
"""Version of the plugin API, raised when plugins written for the previous version may break."""

SUPPORTED_APIS = range(1, API_VERSION + 1)
"""Plugin API versions that methods may be written for; a method that states none is written for version 1."""

OWN = "vlmadapt"
ONLY, STRICT = "VLMADAPT_PLUGINS", "VLMADAPT_STRICT"


@dataclass(frozen=True)
class Plugin:
    """A registered name and the distribution that provides it, not imported yet.

    Attributes:
        name: registered name.
        distribution: distribution that provides the plugin.
        version: version of the distribution.
        entry_point: location of the plugin's code.
    """

    name: str
    distribution: str
    version: str
    entry_point: EntryPoint

    @property
    def kind(self) -> str:
        """Kind of plugin, as a noun."""
        return KIND.get(self.entry_point.group, "plugin")

    @property
    def target(self) -> str:
        """Location of the code, `package.module:name`."""
        return self.entry_point.value.partition(" ")[0]

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' from distribution '{self.distribution} {self.version}'"

    def source_info(self) -> SourceInfo | None:
        """What the plugin's source states; None if there is no source.

        Raises:
            PluginError: the source is broken; the message is the cause alone.
        """
        return read_source_info(self.target)

    def load(self) -> Any:
        """Import the plugin.

        Raises:
            PluginError: the plugin is written for an API version that is not supported, or its import fails; the
                message names the plugin, its distribution and the cause.
        """
        self.check_stated_api()
        try:
            return self.entry_point.load()
        except (Exception, SystemExit) as error:
            if strict():
                raise
            raise PluginError(f"{self} is broken: {first_line(error, named=True)}") from error

    def check_api(self, version: object) -> None:
        """Refuse a plugin API version that this vlmadapt does not support.

        Raises:
            PluginError: the message says which side to update.
        """
        if version in SUPPORTED_APIS:
            return
        here = "-".join(str(v) for v in dict.fromkeys((SUPPORTED_APIS[0], SUPPORTED_APIS[-1])))
        newer, older = "vlmadapt", f"'{self.distribution}'"
        if not isinstance(version, int) or version < SUPPORTED_APIS[0]:
            newer, older = older, newer
        raise PluginError(
            f"{self} is written for plugin API {version}, this vlmadapt supports {here}: install a newer version of "
            f"{newer}, or an older one of {older}."
        )

    def check_stated_api(self) -> None:
        """Check the API version in the source, before an import that may fail because of it.

        Raises:
            PluginError: the version is not supported.
        """
        try:
            info = self.source_info()
        except PluginError:
            return
        if info and info.api_version is not None:
            self.check_api(info.api_version)

    def warn_outdated(self, version: int) -> None:
        """Warn once, with a DeprecationWarning, if the plugin is written for an older API version that still works."""
        if version < API_VERSION and str(self) not in _WARNED:
            _WARNED.add(str(self))
            warn_deprecated(f"plugin API {version}, which {self} is written for,", UPDATE)


UPDATE = f"`api_version = {API_VERSION}` in the class, and the names that the DeprecationWarnings of its code give"
"""What to write in a plugin for an older API version."""

_WARNED: set[str] = set()


def strict() -> bool:
    """Whether errors of plugins are raised unchanged."""
    return os.environ.get(STRICT, "") not in ("", "0")


def plugins(group: str) -> list[Plugin]:
    """All enabled plugins of a group, sorted by name; none is imported."""
    return [plugin for plugin in _registered(group) if _switched_on(plugin)]


def find(group: str, name: str) -> Plugin:
    """The plugin called `name`, or `distribution:name` where two distributions use the same name.

    Raises:
        PluginError: there is no such plugin (the message gives the nearest name), it is switched off, or several
            distributions provide it.
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
    """Names of distributions whose entry points cannot be read."""
    try:
        entry_points(group=METHODS)
    except Exception:
        return _by_distribution()[1]
    return []


def missing(name: str, distribution: str, version: str) -> str | None:
    """Message that the distribution which provides a method is not installed; None if it is installed.

    Args:
        name: registered name of the method.
        distribution: distribution that provided the method when a run or an adapter was made.
        version: version of the distribution then.
    """
    if any(plugin.distribution == distribution for plugin in _registered(METHODS)):
        return None
    return (
        f"method '{name}' of the distribution '{distribution} {version}', which is not installed here; "
        f"install it (pip install {distribution})."
    )


def _registered(group: str) -> tuple[Plugin, ...]:
    return _read(group, _search_path())


def _search_path() -> tuple[tuple[Path, int], ...]:
    """Folders of `sys.path` and when each last changed: a distribution that comes or goes changes its folder."""
    found = []
    for folder in sys.path:
        with suppress(OSError):
            path = Path(folder).resolve()
            found.append((path, path.stat().st_mtime_ns))
    return tuple(found)


@lru_cache(maxsize=32)
def _read(group: str, search_path: tuple[tuple[Path, int], ...]) -> tuple[Plugin, ...]:
    """Plugins of a group, which takes a twentieth of a second: the metadata of every distribution are read."""
    found = []
    owners: dict[int, tuple[str, str]] = {}  # read once per distribution: metadata are slow
    for entry in _entries(group):
        dist = entry.dist
        if id(dist) not in owners:
            owners[id(dist)] = (dist.name, dist.version) if dist else ("unknown", "?")
        found.append(Plugin(entry.name, *owners[id(dist)], entry))
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def _called(name: str, among: Iterable[Plugin]) -> list[Plugin]:
    return [p for p in among if name in (p.name, f"{p.distribution}:{p.name}")]


def _switched_on(plugin: Plugin) -> bool:
    wanted = os.environ.get(ONLY, "").strip()
    if not wanted or plugin.distribution == OWN:
        return True
    return wanted != "off" and bool({plugin.name, plugin.distribution} & {w.strip() for w in wanted.split(",")})


def _entries(group: str) -> EntryPoints:
    try:
        return entry_points(group=group)
    except Exception:  # the metadata of one distribution are damaged
        return _by_distribution()[0].select(group=group)


def _by_distribution() -> tuple[EntryPoints, list[str]]:
    """Entry points of all distributions, and names of the distributions whose metadata are damaged."""
    found: dict[str, EntryPoints] = {}
    damaged = []
    for dist in distributions():
        name = str(dist.metadata["Name"]) if dist.metadata else "unknown"
        try:
            found.setdefault(name, dist.entry_points)
        except Exception:
            damaged.append(name)
    return EntryPoints(entry for entries in found.values() for entry in entries), damaged
