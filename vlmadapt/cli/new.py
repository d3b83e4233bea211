"""`vlmadapt new`."""

from __future__ import annotations

from pathlib import Path

from vlmadapt.cli.parsing import new_parser, parse
from vlmadapt.errors import VlmadaptError, unknown

KINDS = ("method",)
DESCRIPTION = """Write a complete, working package: a method, its entry point, a config, and a test that calls the
conformance kit. docs/plugin-guide.md explains each part."""


def run(arguments: list[str]) -> None:
    """Parse, write, print the next steps."""
    parser = new_parser("new", DESCRIPTION)
    parser.add_argument("kind", type=str, help="kind of plugin: method")
    parser.add_argument("name", type=str, help="registered name, like my-method")
    parser.add_argument("--out", type=str | None, default=None, help="folder; by default ./vlmadapt-NAME")
    given = parse(parser, arguments)
    if given.kind not in KINDS:
        raise VlmadaptError(unknown("kind", given.kind, KINDS))
    from vlmadapt.registry.scaffold import new_method

    folder, *files = new_method(given.name, given.out and Path(given.out))
    print("\n".join(str(file) for file in files))
    print(
        f"\nnext: pip install -e {folder} && vlmadapt plugins check {given.name} && vlmadapt fit --method {given.name}"
    )
