"""Plugins as tables for people."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vlmadapt.registry.listing import OK, PluginCard


def plugins_table(cards: Sequence[PluginCard]) -> None:
    """All plugins, a line each; of methods alone, the kind is left out."""
    table = Table()
    kinds = {card.kind for card in cards} != {"method"}
    for name in (*(["kind"] if kinds else []), "name", "from", "towers", "hook points", "needs", "what it does"):
        table.add_column(name, overflow="fold")
    for card in cards:
        facts = card.facts
        origin = f"{card.distribution} {card.version}"
        what = facts.summary if facts and card.status == OK else card.status
        columns = [", ".join(part) for part in (facts.touches, facts.hooks, facts.needs)] if facts else [""] * 3
        row = (*([card.kind] if kinds else []), card.name, origin, *columns, what)
        table.add_row(*map(escape, row))
    _console().print(table)


def plugin_details(card: PluginCard) -> None:
    """Everything that is known of a plugin, a line each."""
    facts = card.facts
    lines = {
        "kind": card.kind,
        "status": card.status,
        "from": f"{card.distribution} {card.version}",
        "entry point": card.entry_point,
    }
    if facts:
        lines |= {
            "source": facts.file,
            "what it does": facts.summary,
            "paper": facts.paper,
            "towers": ", ".join(facts.touches),
            "hook points": ", ".join(facts.hooks),
            "needs": ", ".join(facts.needs),
            "limitations": "\n".join(f"{check}: {reason}" for check, reason in facts.limitations.items()),
            "plugin API": "" if facts.api_version is None else str(facts.api_version),
        }
    table = Table(title=card.name, show_header=False)
    for name, value in lines.items():
        if value:
            table.add_row(name, escape(value))
    _console().print(table)


def _console() -> Console:
    """Tables keep their width where the output is a file."""
    console = Console()
    return console if console.is_terminal else Console(width=160)
