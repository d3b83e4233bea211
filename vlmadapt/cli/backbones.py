"""`vlmadapt backbones`."""

from __future__ import annotations

from vlmadapt.cli.parsing import new_parser, parse

DESCRIPTION = """List the architectures of open_clip with their towers, the methods that run on them, and the pretrained
tags whose weights are on this machine. A tower with a depth opens: methods can work inside it. Nothing is downloaded;
each architecture is built without weights, which takes about ten seconds for all of them."""


def run(arguments: list[str]) -> None:
    """Parse, list."""
    parser = new_parser("backbones", DESCRIPTION)
    parser.add_argument("names", nargs="*", default=[], help="parts of names, like siglip; all architectures if none")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--markdown", action="store_true", help="print the table of docs/backbones.md")
    given = parse(parser, arguments)
    from vlmadapt.cli.tables.backbones import backbones_json, backbones_markdown, backbones_table
    from vlmadapt.core.loading.catalog import list_architectures

    found = list(list_architectures(given.names))
    show = backbones_json if given.json else backbones_markdown if given.markdown else backbones_table
    show(found)
