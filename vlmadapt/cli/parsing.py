"""jsonargparse, with mistakes told in one line and the nearest name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from vlmadapt.errors import VlmadaptError, unknown

KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "list": "a list", "tuple": "a list"}


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser for a subcommand."""
    return ArgumentParser(
        prog=f"vlmadapt {command}",
        description=description,
        default_env=False,
        exit_on_error=False,
        allow_abbrev=False,
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
    if wrong := _unknown_option(message):
        options = [option for action in parser._actions for option in action.option_strings]
        near = get_close_matches(wrong, options, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"unknown option {wrong}.{hint} `{parser.prog} --help` lists all."
    if said := _wrong_value(message):
        return said
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return " ".join(lines[:3])


def _unknown_option(message: str) -> str | None:
    """The option that nobody knows, on the command line or in a file."""
    if words := re.search(r"[Uu]nrecognized arguments?: (.*)", message):
        return words[1].split()[0].split("=")[0]
    if grouped := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
        return f"--{grouped[1]}.{grouped[2]}"
    key = re.search(r"Option '([\w.]+)' is not accepted|[Kk]ey ['\"]([\w.]+)['\"] is not expected", message)
    return f"--{key[1] or key[2]}" if key else None


def _wrong_value(message: str) -> str | None:
    """What was given and what it has to be."""
    key, value = re.match(r'Parser key "([\w.]+)":', message), re.search(r"(?:Got|Given) value: (.*)", message)
    if not key or not value:
        return None
    if choices := re.search(r"Literal\[(.*?)\]", message):
        return unknown(f"value of --{key[1]}", value[1], re.findall(r"'(.*?)'", choices[1]))
    kinds = [kind for kind in re.findall(r"Expected a <class '(\w+)'>", message) if kind != "NoneType"]
    return f"--{key[1]} is '{value[1]}'; it has to be {' or '.join(KINDS.get(kind, kind) for kind in kinds)}."
