"""`vlmadapt plugins`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmadapt.cli.parsing import add_data_root, new_parser, parse
from vlmadapt.errors import VlmadaptError, unknown
from vlmadapt.registry import KIND

if TYPE_CHECKING:
    from vlmadapt.registry.listing import PluginInfo
    from vlmadapt.testing import CheckResult

ACTIONS = {
    "list": "list all registered plugins, broken ones with the reason; none is imported",
    "info": "show what the source of a plugin states, without importing it",
    "check": "run the conformance kit on a method, a data set or a backbone",
}
KINDS = tuple(KIND.values())

HELP = f"""usage: vlmadapt plugins ACTION [options]

List, describe and check the installed plugins of all distributions.

actions:
{chr(10).join(f"  {name:<7}{what}" for name, what in ACTIONS.items())}

VLMADAPT_PLUGINS=off leaves out all plugins that do not come with vlmadapt, VLMADAPT_PLUGINS=a,b all except these;
VLMADAPT_STRICT=1 shows the error of a broken plugin. `vlmadapt plugins ACTION --help` shows the options.
"""


def run(arguments: list[str]) -> None:
    """Find the action and run it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    action, *rest = arguments
    if action not in ACTIONS:
        raise VlmadaptError(unknown("action of `vlmadapt plugins`", action, ACTIONS))
    {"list": _list, "info": _info, "check": _check}[action](rest)


def _list(arguments: list[str]) -> None:
    given = _parsed("list", arguments)
    from vlmadapt.registry.listing import list_plugins

    found = list_plugins(given.kind)
    if given.json:
        print(json.dumps([info.as_dict() for info in found]))
        return
    from vlmadapt.cli.tables.plugins import plugins_table

    plugins_table(found)


def _info(arguments: list[str]) -> None:
    given = _parsed("info", arguments)
    from vlmadapt.registry.listing import plugin_info

    _, info = plugin_info(given.name, given.kind)
    if given.json:
        print(json.dumps(info.as_dict()))
        return
    from vlmadapt.cli.tables.plugins import plugin_details

    plugin_details(info)


def _check(arguments: list[str]) -> None:
    given = _parsed("check", arguments)
    from vlmadapt.registry.listing import plugin_info

    plugin, info = plugin_info(given.name, given.kind)
    name = f"{plugin.distribution}:{plugin.name}"
    if plugin.kind == "method":
        ok = _check_method(info, name, _options(given.options), given.quick, given.json)
    elif plugin.kind in ("data set", "backbone"):
        ok = _check_other(plugin.kind, name, given)
    else:
        _say(
            {"kind": info.kind, "name": info.name, "status": "loads", "what": type(plugin.load()).__name__}, given.json
        )
        ok = True
    if not ok:
        sys.exit(1)


def _parsed(action: str, arguments: list[str]) -> Any:
    parser = new_parser(f"plugins {action}", ACTIONS[action][0].upper() + ACTIONS[action][1:] + ".")
    if action != "list":
        parser.add_argument("name", type=str, help="registered name, or DISTRIBUTION:NAME")
    parser.add_argument("--kind", type=str | None, default=None, help=f"one of {', '.join(map(repr, KINDS))}")
    if action == "check":
        parser.add_argument("--options", type=str, default="{}", help="options of the method, as JSON")
        parser.add_argument("--quick", action="store_true", help="start no processes and decode no images")
        add_data_root(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parse(parser, arguments)
    if given.kind not in (None, *KINDS):
        raise VlmadaptError(unknown("kind", given.kind, KINDS))
    return given


def _options(given: str) -> dict[str, Any]:
    try:
        options = json.loads(given)
    except ValueError as error:
        raise VlmadaptError(f"--options is not JSON: {error}.") from error
    if not isinstance(options, dict):
        raise VlmadaptError("--options is a JSON object, like '{\"layers\": 2}'.")
    return options


def _check_method(info: PluginInfo, name: str, options: dict[str, Any], quick: bool, as_json: bool) -> bool:
    from vlmadapt.cli.tables.checks import print_summary
    from vlmadapt.testing import MethodUnderTest, run_checks
    from vlmadapt.testing.advice import advice
    from vlmadapt.testing.uses import observed_uses

    tested = MethodUnderTest(name, options)
    results = _shown(run_checks(tested, quick=quick), as_json)
    ok = all(result.ok for result in results)
    fitted = tested.trace.error is None
    hints, uses = (advice(tested), observed_uses(tested)) if fitted else ([], {})
    notes = [info.note] if info.note else []
    if as_json:
        checked = [vars(result) for result in results]
        print(json.dumps({"method": name, "conforms": ok, "checks": checked, "uses": uses, "advice": notes + hints}))
    else:
        print_summary(results, [f"{what}: {', '.join(used)}" for what, used in uses.items()], notes + hints)
    return ok


def _check_other(kind: str, name: str, given: Any) -> bool:
    """Run the checks of a data set or a backbone."""
    from vlmadapt.cli.tables.checks import print_summary

    if kind == "data set":
        from vlmadapt.testing.datasets import check_dataset

        checked = check_dataset(name, Path(given.data_root) if given.data_root else None, quick=given.quick)
    else:
        from vlmadapt.testing.backbones import check_backbone

        checked = check_backbone(name)
    results = _shown(checked, given.json)
    ok = all(result.ok for result in results)
    if given.json:
        print(json.dumps({"kind": kind, "name": name, "conforms": ok, "checks": [vars(result) for result in results]}))
    else:
        print_summary(results, [], [])
    return ok


def _shown(results: Iterable[CheckResult], as_json: bool) -> list[CheckResult]:
    """The results of all checks, each printed when it is there."""
    from vlmadapt.cli.tables.checks import print_result

    found = []
    for result in results:
        found.append(result)
        if not as_json:
            print_result(result)
    return found


def _say(content: dict[str, str], as_json: bool) -> None:
    print(json.dumps(content) if as_json else ": ".join(content.values()))
