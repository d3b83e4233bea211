"""`vlmadapt fit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from jsonargparse import ArgumentParser, Namespace

from vlmadapt.cli.parsing import new_parser, parse
from vlmadapt.errors import VlmadaptError

if TYPE_CHECKING:
    from vlmadapt.runs.settings import FitSettings

DESCRIPTION = """Train a method and test it. Settings come from the published defaults of the method, then from --config
files in order, then from the options given. `--method NAME --help` shows the options of a method and its defaults."""

SHORT = {"--method": "--method.name", "--template": "--templates+"}
"""`--method NAME` leaves `--method.OPTION` to the method's options; `--template TEXT` may be given several times."""


def run(arguments: list[str]) -> None:
    """Parse, train, test, print a table."""
    arguments = _in_full(arguments)
    name = _method_name(arguments)
    parser = _parser(name)
    given = parse(parser, arguments)
    if name is None and given.resume is None:
        from vlmadapt import registry

        known = ", ".join(p.name for p in registry.plugins(registry.METHODS))
        raise VlmadaptError(f"which method? Say --method NAME with one of {known}.")
    from vlmadapt.cli.tables.runs import fit_table
    from vlmadapt.runs.distributed import is_main_process
    from vlmadapt.training.fit import fit

    result = fit(_settings(given), resume=given.resume and Path(given.resume))
    if is_main_process():
        fit_table(result.numbers, result.folder)


def _in_full(arguments: Sequence[str]) -> list[str]:
    """The arguments with the options of `SHORT` written out."""
    return [SHORT.get(name, name) + joined + value for name, joined, value in (a.partition("=") for a in arguments)]


def _method_name(arguments: Sequence[str]) -> str | None:
    """The method has to be known before its options can be parsed: the last one given wins, options over files."""
    from_file = None
    named = None
    for argument, value in zip(arguments, [*arguments, ""][1:], strict=True):
        option, _, joined = argument.partition("=")
        if option == "--config":
            from_file = _method_in(Path(joined or value)) or from_file
        if option == "--method.name":
            named = joined or value
    return named or from_file


def _method_in(config: Path) -> str | None:
    if not config.is_file():
        raise VlmadaptError(f"the config file '{config}' does not exist.")
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise VlmadaptError(f"the config file '{config}' is not UTF-8 text.") from error
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise VlmadaptError(f"'{config}'{line} is not valid YAML.") from error
    method = content.get("method") if isinstance(content, dict) else None
    if method is not None and not isinstance(method, dict):
        raise VlmadaptError(
            f"'{config}': write the method as `method: {{name: {method}}}`, its options beside the name."
        )
    return str(method["name"]) if method and "name" in method else None


def _parser(name: str | None) -> ArgumentParser:
    from vlmadapt.runs.settings import FitSettings

    parser = new_parser("fit", DESCRIPTION)
    parser.add_argument("--config", action="config", help="YAML file with settings; may be given several times")
    parser.add_argument("--method.name", type=str, metavar="NAME", help="short: --method NAME; see `vlmadapt methods`")
    if name is not None:
        _add_method(parser, name)
    parser.add_class_arguments(FitSettings, None, skip={"method", "options", "train"})
    parser.add_argument(
        "--resume", type=str, metavar="RUN", help="go on with this run folder; everything else is taken from there"
    )
    return parser


def _add_method(parser: ArgumentParser, name: str) -> None:
    from vlmadapt.core.build import method_class
    from vlmadapt.core.recipe import Recipe

    cls = method_class(name)
    parser.add_class_arguments(cls.Config, "method", help=f"options of {name}")
    parser.add_class_arguments(Recipe, "train", help="training settings")
    published = {f"train.{key}": value for key, value in vars(cls.recipe).items()}
    parser.set_defaults(published)


def _settings(given: Namespace) -> FitSettings:
    from vlmadapt.runs.settings import FitSettings

    content = given.as_dict()
    method = content.pop("method", None) or {}
    for key in ("config", "resume"):
        content.pop(key, None)
    name = method.pop("name", None) or ""
    return FitSettings(method=name, options=method, **content)
