"""`vlmadapt plugins`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from vlmadapt.cli.parsing import new_parser, parse
from vlmadapt.errors import VlmadaptError, unknown
from vlmadapt.registry import KIND

if TYPE_CHECKING:
    from vlmadapt.registry import Plugin

ACTIONS = {
    "list": "all that is registered, with what its source says of it; what is broken is shown as such",
    "info": "everything that is known of one plugin without importing it",
    "check": "run the conformance kit on a method, or load what is no method",
}
KINDS = tuple(KIND.values())

HELP = f"""usage: vlmadapt plugins ACTION [options]

What is installed, from whichever distribution.

actions:
{chr(10).join(f"  {name:<7}{what}" for name, what in ACTIONS.items())}

VLMADAPT_PLUGINS=off leaves out all that does not come with vlmadapt, VLMADAPT_PLUGINS=a,b all but these;
VLMADAPT_STRICT=1 shows a broken plugin's own error. `vlmadapt plugins ACTION --help` tells more.
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

    cards = list_plugins(given.kind)
    if given.json:
        print(json.dumps([card.as_dict() for card in cards]))
        return
    from vlmadapt.cli.tables.plugins import plugins_table

    plugins_table(cards)


def _info(arguments: list[str]) -> None:
    given = _parsed("info", arguments)
    from vlmadapt.registry.listing import plugin_card

    _, card = plugin_card(given.name, given.kind)
    if given.json:
        print(json.dumps(card.as_dict()))
        return
    from vlmadapt.cli.tables.plugins import plugin_details

    plugin_details(card)


def _check(arguments: list[str]) -> None:
    given = _parsed("check", arguments)
    from vlmadapt.registry.listing import plugin_card

    plugin, card = plugin_card(given.name, given.kind)
    name = f"{plugin.distribution}:{plugin.name}"
    if plugin.kind != "method":
        _say({"kind": card.kind, "name": card.name, "status": "loads", "what": _load(plugin)}, given.json)
    elif not _check_method(name, _options(given.options), given.quick, given.json):
        sys.exit(1)


def _parsed(action: str, arguments: list[str]) -> Any:
    parser = new_parser(f"plugins {action}", ACTIONS[action][0].upper() + ACTIONS[action][1:] + ".")
    if action != "list":
        parser.add_argument("name", type=str, help="registered name, or DISTRIBUTION:NAME")
    parser.add_argument("--kind", type=str | None, default=None, help=f"one of {', '.join(map(repr, KINDS))}")
    if action == "check":
        parser.add_argument("--options", type=str, default="{}", help="options of the method, as JSON")
        parser.add_argument("--quick", action="store_true", help="leave out the check that starts two processes")
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


def _check_method(name: str, options: dict[str, Any], quick: bool, as_json: bool) -> bool:
    from vlmadapt.cli.tables.checks import print_result, print_summary
    from vlmadapt.testing import MethodUnderTest, run_checks
    from vlmadapt.testing.advice import advice

    tested = MethodUnderTest(name, options)
    results = []
    for result in run_checks(tested, quick=quick):
        results.append(result)
        if not as_json:
            print_result(result)
    ok = all(result.ok for result in results)
    hints = advice(tested) if tested.trace.error is None else []
    if as_json:
        checked = [vars(result) for result in results]
        print(json.dumps({"method": name, "conforms": ok, "checks": checked, "advice": hints}))
    else:
        print_summary(results, hints)
    return ok


def _load(plugin: Plugin) -> str:
    """Load what is no method, and say what it is."""
    name = f"{plugin.distribution}:{plugin.name}"
    if plugin.kind == "data set":
        from vlmadapt.data.load import load_data

        data = load_data(name)
        return f"{len(data.classes)} classes, {len(data.train)} training and {len(data.test)} test images"
    if plugin.kind != "backbone":
        return type(plugin.load()).__name__
    from vlmadapt.core.loading import load_backbone

    backbone = load_backbone(name)
    towers = {"text": backbone.text, "image": backbone.image}
    return ", ".join(f"{side} tower of {t.depth} blocks, {t.width} wide" for side, t in towers.items())


def _say(content: dict[str, str], as_json: bool) -> None:
    print(json.dumps(content) if as_json else ": ".join(content.values()))
