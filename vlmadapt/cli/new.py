"""`vlmadapt new`."""

from __future__ import annotations

from pathlib import Path

from vlmadapt.cli.parsing import new_parser, parse
from vlmadapt.errors import VlmadaptError, unknown

DESCRIPTION = """Write a complete, working package of a method, a data set or a backbone: its code, its entry point, and
a test that calls the conformance kit. docs/plugin-guide.md explains each part."""
NEXT = {
    "method": "vlmadapt fit --method {name}",
    "dataset": "vlmadapt fit --method clip --data {name}",
    "backbone": "vlmadapt fit --method coop --backbone {name}",
}
"""What to run with each sort of plugin."""


def run(arguments: list[str]) -> None:
    """Parse, write, print the next steps."""
    from vlmadapt.registry.scaffold import FIT_OPTIONS, METHOD_KINDS, new_backbone, new_dataset, new_method

    parser = new_parser("new", DESCRIPTION)
    parser.add_argument("what", type=str, help=f"one of {', '.join(NEXT)}")
    parser.add_argument("name", type=str, help="registered name, like my-method")
    kinds = "; ".join(f"{kind}: {what}" for kind, what in METHOD_KINDS.items())
    parser.add_argument("--kind", type=str | None, default=None, help=f"what a method starts from ({kinds})")
    parser.add_argument("--out", type=str | None, default=None, help="folder; by default ./vlmadapt-NAME")
    given = parse(parser, arguments)
    out = Path(given.out) if given.out else None
    if given.what not in NEXT:
        raise VlmadaptError(unknown("kind of plugin", given.what, NEXT))
    if given.kind is not None and given.what != "method":
        raise VlmadaptError(f"--kind is for methods; leave it out for a {given.what}.")
    if given.kind not in (None, *METHOD_KINDS):
        raise VlmadaptError(unknown("kind", given.kind, METHOD_KINDS))
    if given.what == "method":
        folder, *files = new_method(given.name, out, given.kind or next(iter(METHOD_KINDS)))
    else:
        folder, *files = (new_dataset if given.what == "dataset" else new_backbone)(given.name, out)
    print("\n".join(str(file) for file in files if file.suffix != ".png"))
    then = NEXT[given.what].format(name=given.name) + FIT_OPTIONS.get(given.kind, "")
    print(f"\nnext: pip install -e {folder} && vlmadapt plugins check {given.name} && {then}")
