"""Tables of plugins."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from vlmadapt.cli.tables.console import console
from vlmadapt.registry.listing import OK, PluginInfo
from vlmadapt.registry.tracks import ordered, track_title


def plugins_table(plugins: Sequence[PluginInfo]) -> None:
    """Print a table of the methods of each track, and one of all other plugins."""
    out = console()
    methods = {id(plugin): plugin.source.track for plugin in plugins if plugin.kind == "method" and plugin.source}
    for track in ordered(methods.values()):
        own = [plugin for plugin in plugins if methods.get(id(plugin)) == track]
        out.print(_table(own, f"methods, {track_title(track)}"))
    if others := [plugin for plugin in plugins if id(plugin) not in methods]:
        out.print(_table(others, "other plugins" if methods else None))
    for plugin in plugins:
        if plugin.note:
            out.print(f"note: {plugin.note}", soft_wrap=True)


def _table(plugins: Sequence[PluginInfo], title: str | None) -> Table:
    """A row for each plugin; the kind is left out if all are methods."""
    table = Table(title=title, title_justify="left")
    kinds = {plugin.kind for plugin in plugins} != {"method"}
    for name in (*(["kind"] if kinds else []), "name", "from", "towers", "what it does"):
        table.add_column(name, overflow="fold")
    for plugin in plugins:
        source = plugin.source
        what = source.summary if source and plugin.status == OK else plugin.status
        towers = ", ".join(source.touches) if source else ""
        origin = f"{plugin.distribution} {plugin.version}"
        table.add_row(*([plugin.kind] if kinds else []), plugin.name, origin, towers, what)
    return table


def plugin_details(plugin: PluginInfo) -> None:
    """Print everything known about a plugin, a row each."""
    source = plugin.source
    rows = {
        "kind": plugin.kind,
        "status": plugin.status,
        "from": f"{plugin.distribution} {plugin.version}",
        "entry point": plugin.entry_point,
    }
    if source:
        rows |= {
            "source": source.file,
            "what it does": source.summary,
            "paper": source.paper,
            "towers": ", ".join(source.touches),
            "track": track_title(source.track) if plugin.kind == "method" else "",
            "limitations": "\n".join(f"{check}: {reason}" for check, reason in source.limitations.items()),
            "plugin API": "" if source.api_version is None else str(source.api_version),
            "note": plugin.note,
        }
    table = Table(title=plugin.name, show_header=False)
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    console().print(table)
