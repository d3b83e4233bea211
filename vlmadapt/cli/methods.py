"""`vlmadapt methods`."""

from __future__ import annotations

from vlmadapt.cli.parsing import new_parser, parse

DESCRIPTION = """List installed methods, broken ones with the reason. Without --backbone no method is imported, so the
list appears at once."""


def run(arguments: list[str]) -> None:
    """Parse, list."""
    parser = new_parser("methods", DESCRIPTION)
    parser.add_argument(
        "--backbone",
        type=str | None,
        default=None,
        help="architecture to count trainable parameters for, like ViT-B-16",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parse(parser, arguments)
    if given.backbone is None:
        from vlmadapt.cli import plugins

        plugins.run(["list", "--kind", "method", *(["--json"] if given.json else [])])
        return
    from vlmadapt.cli.tables.runs import methods_table
    from vlmadapt.core.parameter_counts import list_methods

    methods_table(list_methods(given.backbone), given.backbone, as_json=given.json)
