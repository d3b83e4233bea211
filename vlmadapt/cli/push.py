"""`vlmadapt push`."""

from __future__ import annotations

import re
from pathlib import Path

from vlmadapt.cli.parsing import new_parser, parse
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.run import Run

DESCRIPTION = """Share a finished run on the Hugging Face Hub: its adapter, class names and numbers, and a model card;
no images and no file names. `hf:OWNER/NAME` then loads it in `vlmadapt predict` and `vlmadapt.load`."""


def run(arguments: list[str]) -> None:
    """Parse, upload or write, say where."""
    parser = new_parser("push", DESCRIPTION)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("repository", type=str, help="OWNER/NAME on the Hub; made if it does not exist")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument(
        "--license", type=str | None, default=None, metavar="ID", help="licence of the adapter, like mit or cc-by-4.0"
    )
    parser.add_argument("--out", type=str | None, default=None, help="write the files to this folder, upload nothing")
    given = parse(parser, arguments)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", given.repository):
        raise VlmadaptError(f"'{given.repository}' is no repository of the Hub; it has the form OWNER/NAME.")
    source = Run.open(given.run)
    from vlmadapt.deploy.hub import loading_name, push, stage

    if given.out is not None:
        stage(source, Path(given.out), given.repository, given.license)
        print(f"written to {given.out}; nothing was uploaded")
        return
    address = push(source, given.repository, private=given.private, licence=given.license)
    print(f"uploaded to {address}; load it with '{loading_name(given.repository)}'")
