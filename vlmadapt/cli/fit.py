"""`vlmadapt fit`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vlmadapt import registry
from vlmadapt.cli.method_options import add_method_options, method_options
from vlmadapt.cli.parsing import EarlyParser, add_config, new_parser, parse, take_config
from vlmadapt.cli.prechecks import check_resumable, check_startable
from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.resumption import resumed_settings
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings, make_recipe

DESCRIPTION = """Train a method and test it. Settings come from the published defaults of the method, then from --config
files in order, then from the options given. `--method NAME --help` shows the options of a method and its defaults."""


def run(arguments: list[str]) -> None:
    """Parse, train, test, print a table."""
    content, others = _take_short_options(arguments)
    name = content.get("method", {}).get("name")
    # Without defaults, to tell given `epochs` from published ones, see `make_recipe`.
    printing = any(argument.startswith("--print_config") for argument in others)
    resume = _resume(others)
    known = name or (check_resumable(resume).method if resume else None)
    given = parse(_parser(known, _wraps(content, others)), others, content, defaults=printing).as_dict()
    settings, changes = (_new_run(given), {}) if resume is None else _resumed(resume, given)
    from vlmadapt.cli.tables.runs import fit_table
    from vlmadapt.runs.distributed import is_main_process
    from vlmadapt.training.fit import fit

    result = fit(settings, resume=resume, changes=changes)
    if is_main_process():
        fit_table(result.numbers, result.folder)


def _take_short_options(arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Settings in files and in the short options `--method NAME` and `--template TEXT`, and the other arguments."""
    content, others = take_config(arguments)
    early = EarlyParser()
    early.add_argument("--method", "--method.name", dest="name")
    early.add_argument("--template", dest="templates", action="append")
    short, others = early.parse_known_args(others)
    if short.name is not None:
        content["method"] = {**content.get("method", {}), "name": short.name}
    if short.templates is not None:
        content["templates"] = short.templates
    if "method" in content and "name" in content["method"]:
        content["method"]["name"] = str(content["method"]["name"])
    return content, others


def _wraps(content: dict[str, Any], arguments: Sequence[str]) -> str | None:
    """The method inside a wrapper, whose training settings are shown as defaults."""
    early = EarlyParser()
    early.add_argument("--method.wraps", dest="wraps", default=content.get("method", {}).get("wraps"))
    wraps: str | None = early.parse_known_args(list(arguments))[0].wraps
    return wraps


def _resume(arguments: Sequence[str]) -> Path | None:
    """The run of `--resume`, whose method decides which options exist."""
    early = EarlyParser()
    early.add_argument("--resume", type=Path)
    folder: Path | None = early.parse_known_args(list(arguments))[0].resume
    return folder


def _parser(name: str | None, wraps: str | None) -> ArgumentParser:
    parser = new_parser("fit", DESCRIPTION)
    add_config(parser)
    parser.add_argument("--method.name", type=str, metavar="NAME", help="short: --method NAME; see `vlmadapt methods`")
    if name is not None:
        add_method_options(parser, name)
        parser.add_class_arguments(Recipe, "train", help="training settings")
        published = method_options(name, wraps)[1]
        parser.set_defaults({f"train.{key}": value for key, value in vars(published).items()})
    parser.add_class_arguments(FitSettings, None, skip={"method", "options", "train"})
    parser.add_argument(
        "--resume",
        type=str,
        metavar="RUN",
        help="continue the run in this folder with its own settings; may change: --workers, --track, the places of "
        "data and backbone, and --train.epochs to more where the schedule is constant",
    )
    return parser


def _new_run(given: dict[str, Any]) -> FitSettings:
    """Settings of a run to be started.

    Raises:
        VlmadaptError: no method is given, or a setting is invalid.
    """
    content = {key: value for key, value in given.items() if key not in ("config", "method", "resume")}
    options = dict(given.get("method") or {})
    name = options.pop("name", None)
    if name is None:
        known = ", ".join(p.name for p in registry.plugins(registry.METHODS))
        raise VlmadaptError(f"no method given; write --method NAME with one of {known}.")
    settings = FitSettings(method=name, options=options, **content)
    make_recipe(method_options(name)[1], settings.train)
    check_startable(settings)
    return settings


def _resumed(folder: Path, given: dict[str, Any]) -> tuple[FitSettings, dict[str, Any]]:
    """Settings of the run in a folder, and those of them that change.

    Raises:
        VlmadaptError: the folder holds no run, or settings are given that cannot change.
    """
    changes = {name: value for name, value in given.items() if name != "resume" and value not in (None, {})}
    return resumed_settings(Run.open(folder), changes), changes
