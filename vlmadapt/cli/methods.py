"""`vlmadapt methods`."""

from __future__ import annotations

from vlmadapt.cli.parsing import new_parser, parse


def run(arguments: list[str]) -> None:
    """Parse, list."""
    parser = new_parser("methods", "List the methods that are installed; a broken plugin is shown as such.")
    parser.add_argument(
        "--backbone",
        type=str,
        default="ViT-B-16",
        help="architecture to count trainable parameters for",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parse(parser, arguments)
    from vlmadapt.workflows.methods import list_methods
    from vlmadapt.workflows.table import methods_table

    methods_table(list_methods(given.backbone), given.backbone, as_json=given.json)
