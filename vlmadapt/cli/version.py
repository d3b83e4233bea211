"""`vlmadapt --version`, and with `--json` everything that a bug report needs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from vlmadapt.errors import VlmadaptError


def run(arguments: Sequence[str]) -> None:
    """Print the version, or with `--json` versions, device and plugins of other distributions."""
    if unknown := [argument for argument in arguments if argument != "--json"]:
        raise VlmadaptError(f"unknown option {unknown[0]}; --version takes --json, for versions, device and plugins.")
    if not arguments:
        print(version("vlmadapt"))
        return
    from vlmadapt.files import as_json

    print(as_json(describe()), end="")


def describe() -> dict[str, Any]:
    """Versions of plugin API, Python and libraries, vlmadapt among them; machine; plugins of other distributions."""
    from vlmadapt import registry
    from vlmadapt.registry.listing import list_plugins
    from vlmadapt.runs.run import machine

    fields = ("kind", "name", "distribution", "version", "status")
    others = [plugin for plugin in list_plugins() if plugin.distribution != registry.OWN]
    return {
        "plugin_api": registry.API_VERSION,
        **machine(),
        "plugins": [{name: getattr(plugin, name) for name in fields} for plugin in others],
    }
