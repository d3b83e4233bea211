"""`vlmadapt compare`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from jsonargparse import Namespace

from vlmadapt import registry
from vlmadapt.cli.parsing import add_config, new_parser, parse, take_config
from vlmadapt.errors import VlmadaptError

if TYPE_CHECKING:
    from vlmadapt.compare.settings import CompareSettings

DESCRIPTION = """Compare methods: every method on every data set with every seed, each an ordinary run. Finished runs
are reused, interrupted ones are resumed, and one that fails does not stop the others. Lists are separated by commas."""

NOT_SETTINGS = ("config", "jobs", "launcher", "launcher_options", "dry_run", "measure", "print_commands")
"""Options that say how to run, and not what."""

T = TypeVar("T")


def run(arguments: list[str]) -> None:
    """Parse the arguments, run what is missing, print the tables."""
    parser = new_parser("compare", DESCRIPTION)
    add_config(parser)
    parser.add_argument("--methods", type=str | list[str] | None, default=None, help="the first is the reference")
    parser.add_argument("--data", type=str | list[str], default="openmoji", help="registered data sets or folders")
    parser.add_argument("--seeds", type=int | str | list[int], default="1,2,3", help="seeds of every method")
    parser.add_argument("--shots", type=int | str | list[int], default=16, help="training images per class; 0 for all")
    parser.add_argument("--method_configs", type=str | list[str], default=[], help="settings files for single methods")
    parser.add_argument("--reuse", type=str | list[str], default=[], help="folders with runs to reuse")
    parser.add_argument("--train", type=dict[str, Any], default={}, help="for all methods, like --train.epochs 5")
    _add_simple(parser)
    parser.add_argument("--jobs", type=int, default=1, help="number of jobs at the same time")
    parser.add_argument("--launcher", type=str, default="local", help="local, slurm, ray or another registered one")
    parser.add_argument(
        "--launcher_options", type=dict[str, Any], default={}, help="for example --launcher_options.slurm_partition gpu"
    )
    parser.add_argument("--dry_run", "--dry-run", action="store_true", help="list the runs without starting them")
    parser.add_argument("--measure", action="store_true", help="like --dry_run, after a few steps of each kind of run")
    parser.add_argument("--print_commands", action="store_true", help="write the jobs' command lines, and start none")
    content, others = take_config(arguments)
    given = parse(parser, others, content)
    if not given.methods:
        raise VlmadaptError("no methods given; write --methods NAME,NAME; `vlmadapt methods` lists them.")
    settings = _settings(given)
    if given.jobs < 1:
        raise VlmadaptError(f"--jobs is {given.jobs}; run at least one at a time.")
    for method in settings.methods:
        registry.find(registry.METHODS, method)  # raises before torch is imported
    from vlmadapt.cli.tables.compare import show, show_plan
    from vlmadapt.compare.compare import compare, prepare
    from vlmadapt.compare.cost import measure
    from vlmadapt.compare.plan import plan

    if given.dry_run or given.measure:
        planned = plan(settings)
        if given.measure:
            measure(planned, settings.folder, lambda text: print(text, file=sys.stderr))
        show_plan(planned, settings.folder, given.jobs)
        return
    if given.print_commands:
        print(*prepare(settings, given.jobs), sep="\n")
        return
    comparison, results = compare(settings, given.jobs, given.launcher, dict(given.launcher_options))
    show(results, str(settings.folder))
    failed = {entry.folder for entry in comparison.entries if entry.error}
    if failed:
        runs = {entry.folder for entry in comparison.entries}
        raise VlmadaptError(f"{len(failed)} of {len(runs)} runs failed; see `log.txt` in their folders.")


def _add_simple(parser: Any) -> None:
    """Add the options that `CompareSettings` has in the same form."""
    from vlmadapt.compare.settings import CompareSettings

    lists = {"methods", "data", "seeds", "shots", "method_configs", "reuse", "train"}
    parser.add_class_arguments(CompareSettings, None, skip=lists)


def _settings(given: Namespace) -> CompareSettings:
    from vlmadapt.compare.settings import CompareSettings

    lists: dict[str, Callable[[str], Any]] = {
        "methods": str, "data": str, "seeds": int, "shots": int, "method_configs": str, "reuse": str,
    }  # fmt: skip
    content = {key: value for key, value in given.as_dict().items() if key not in NOT_SETTINGS}
    for name, of in lists.items():
        content[name] = _listed(name, content[name], of)
    return CompareSettings(**content)


def _listed(name: str, value: Any, of: Callable[[str], T]) -> list[T]:
    """`a,b` or a list."""
    parts = value if isinstance(value, list) else [part.strip() for part in str(value).split(",") if part.strip()]
    try:
        return [of(part) for part in parts]
    except ValueError:
        raise VlmadaptError(f"--{name} is '{value}'; give numbers separated by commas.") from None
