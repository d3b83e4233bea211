"""jsonargparse with settings files merged first, and mistakes reported in one line with the nearest valid name."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from vlmadapt.errors import DataError, VlmadaptError, unknown
from vlmadapt.files import exists
from vlmadapt.runs.settings_files import read_settings, without_replaced_length
from vlmadapt.validation import KINDS

TYPE_NAMES = {kind.__name__: words for kind, words in KINDS.items()}


def new_parser(command: str, description: str) -> ArgumentParser:
    """A parser for a subcommand."""
    return ArgumentParser(
        prog=f"vlmadapt {command}",
        description=description,
        default_env=False,
        exit_on_error=False,
        allow_abbrev=False,
    )


def add_config(parser: ArgumentParser) -> None:
    """Add `--config FILE`; `take_config` reads the files."""
    parser.add_argument(
        "--config", action="config", metavar="FILE", help="YAML file with settings; of several, later ones win"
    )


def add_backbone(parser: ArgumentParser) -> None:
    """Add `--backbone` of a run."""
    parser.add_argument("--backbone", type=str | None, default=None, help="new location of the run's backbone")


def add_classes(parser: ArgumentParser) -> None:
    """Add `--classes` in the place of a run's own; `class_list` reads it."""
    parser.add_argument(
        "--classes", type=str | None, default=None, help="class names separated by commas, or a file of them"
    )


def class_list(given: str | None) -> list[str] | None:
    """The class names of `--classes`; None if it is not given.

    Raises:
        DataError: the file cannot be read, or there are fewer than two.
    """
    if given is None:
        return None
    if given and exists(Path(given)):
        from vlmadapt.data.class_file import read_names

        found = list(read_names(Path(given)))
    else:
        found = [name.strip() for name in given.split(",") if name.strip()]
    if len(found) < 2:
        raise DataError(
            f"--classes '{given}' leaves nothing to choose from; give two names or more with commas between, or a file "
            "with a name per line."
        )
    return found


def add_descriptions(parser: ArgumentParser) -> None:
    """Add `--descriptions` in the place of a run's own."""
    parser.add_argument(
        "--descriptions",
        type=str | None,
        default=None,
        help="file with sentences for each class, by default those of the run",
    )


def add_precision(parser: ArgumentParser) -> None:
    """Add `--precision`."""
    parser.add_argument(
        "--precision",
        type=Literal["fp32", "bf16", "fp16"] | None,
        default=None,
        help="precision of the towers; by default full precision, on CUDA that of the run's training",
    )


def add_data_root(parser: ArgumentParser) -> None:
    """Add `--data_root DIR`."""
    parser.add_argument(
        "--data_root",
        type=str | None,
        default=None,
        metavar="DIR",
        help="folder that contains registered data sets; by default $VLMADAPT_DATA",
    )


def add_reading(parser: ArgumentParser) -> None:
    """Add `--recursive` and `--columns`, for how folders and tables are read."""
    parser.add_argument(
        "--recursive",
        action="store_true",
        help="read nested folders: each folder with images is a class, named by its path (animals/cat)",
    )
    parser.add_argument(
        "--columns",
        type=str | None,
        default=None,
        metavar="NAMES",
        help="names of a table's columns where they are not path, label and split: path=image,label=species",
    )


class EarlyParser(argparse.ArgumentParser):
    """Takes a few options out of the arguments, before the parser for all others can be built."""

    def __init__(self) -> None:
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting."""
        raise VlmadaptError(message)


def take_config(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Content of all `--config` files, merged, and the other arguments.

    Raises:
        SettingError: a file cannot be read or is not a settings file.
    """
    early = EarlyParser()
    early.add_argument("--config", action="append", type=Path, default=[])
    given, others = early.parse_known_args(list(arguments))
    return read_settings(given.config), others


def parse(
    parser: ArgumentParser, arguments: Sequence[str], content: Mapping[str, Any] | None = None, *, defaults: bool = True
) -> Namespace:
    """Parse arguments.

    Args:
        parser: knows the options.
        arguments: command line of the subcommand.
        content: settings from files; arguments win.
        defaults: fill in the defaults of options that are not given.

    Raises:
        VlmadaptError: an option or a value is invalid; the message is one line.
    """
    _hide_group_files(parser)
    content = dict(content or {})
    if "train" in content:
        given = [argument.partition("=")[0].removeprefix("--train.") for argument in arguments]
        content["train"] = without_replaced_length(content["train"], given)
    from_files = ["--config", yaml.safe_dump(content)] if content else []
    try:
        return parser.parse_args([*from_files, *_with_values(parser, arguments)], defaults=defaults)
    except ArgumentError as error:
        raise VlmadaptError(_one_line(str(error), parser)) from error


def _hide_group_files(parser: ArgumentParser) -> None:
    """Leave `--method FILE` and `--train FILE`, which jsonargparse adds, out of the help: `--config` reads files."""
    for action in parser._actions:
        if action.metavar == "CONFIG":
            action.help = argparse.SUPPRESS


def _with_values(parser: ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """The arguments with `true` after each yes-or-no option that was given without a value: `--skip_corrupt`."""
    switches = {option for action in parser._actions if _is_switch(action) for option in action.option_strings}
    found: list[str] = []
    for argument, following in zip(arguments, [*arguments, "--"][1:], strict=True):
        found.append(argument)
        if argument in switches and following.startswith("--"):
            found.append("true")
    return found


def _is_switch(action: argparse.Action) -> bool:
    return getattr(action, "_typehint", None) is bool


def _one_line(message: str, parser: ArgumentParser) -> str:
    """The gist of a jsonargparse message."""
    if wrong := _unknown_option(message):
        options = [option for action in parser._actions for option in action.option_strings]
        last = wrong.lstrip("-").rpartition(".")[2]
        grouped = [option for option in options if option.endswith(f".{last}")]  # --lr is --train.lr
        near = grouped or get_close_matches(wrong, options, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        return f"unknown option {wrong}.{hint} `{parser.prog} --help` lists all."
    if missing := re.search(r"arguments are required: (.*)", message):
        return f"the following arguments are required: {_as_written(missing[1].split(', '), parser)}"
    if said := _wrong_value(message):
        return said
    lines = [line.strip(" -") for line in message.splitlines() if line.strip(" -")]
    return " ".join(lines[:3])


def _as_written(names: Sequence[str], parser: ArgumentParser) -> str:
    """Arguments by their names on the command line: `to` is written `--to`."""
    written = {action.dest: action.option_strings[0] for action in parser._actions if action.option_strings}
    return ", ".join(written.get(name, name) for name in names)


def _unknown_option(message: str) -> str | None:
    """The option that does not exist, on the command line or in a file."""
    if words := re.search(r"[Uu]nrecognized arguments?: (.*)", message):
        return words[1].split()[0].split("=")[0]
    if grouped := re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", message):
        return f"--{grouped[1]}.{grouped[2]}"
    key = re.search(r"Option '([\w.]+)' is not accepted|[Kk]ey ['\"]([\w.]+)['\"] is not expected", message)
    return f"--{key[1] or key[2]}" if key else None


def _wrong_value(message: str) -> str | None:
    """What was given, and what is valid."""
    key, value = re.match(r'Parser key "([\w.]+)":', message), re.search(r"(?:Got|Given) value: (.*)", message)
    if not key or not value:
        return None
    if choices := re.search(r"Literal\[(.*?)\]", message):
        return unknown(f"value of --{key[1]}", value[1], re.findall(r"'(.*?)'", choices[1]))
    kinds = [kind for kind in re.findall(r"Expected a <class '(\w+)'>", message) if kind != "NoneType"]
    return f"--{key[1]} is '{value[1]}'; it has to be {' or '.join(TYPE_NAMES.get(kind, kind) for kind in kinds)}."
