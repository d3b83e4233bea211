"""jsonargparse, with mistakes told in one line and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from vlmadapt.errors import VlmadaptError


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser for a subcommand."""
    return ArgumentParser(
        prog=f"vlmadapt {command}",
        description=description,
        default_env=False,
        exit_on_error=False,
    )


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parse arguments.

    Raises:
        VlmadaptError: they make no sense; the message is one line.
    """
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise VlmadaptError(_one_line(str(error), parser)) from error


def _one_line(message: str, parser: ArgumentParser) -> str:
    """The gist of a jsonargparse message."""
    options = [option for action in parser._actions for option in action.option_strings]
    words = re.search(r"[Uu]nrecognized arguments?: (.*)", message)
    key = re.search(r"[Kk]ey ['\"]([\w.]+)['\"] is not expected|No action for key ['\"]([\w.]+)['\"]", message)
    if words or key:
        wrong = words[1].split()[0].split("=")[0] if words else f"--{(key[1] or key[2])}" if key else ""
        near = get_close_matches(wrong, options, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"unknown option {wrong}.{hint} `{parser.prog} --help` lists all."
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return " ".join(lines[:3])
