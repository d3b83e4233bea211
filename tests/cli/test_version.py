"""`vlmadapt --version`: the version alone, or what a bug report needs."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
import torch

from tests.cli.command import call
from vlmadapt.cli.main import HELP
from vlmadapt.plugin import API_VERSION
from vlmadapt.registry.listing import PluginInfo


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "--version").out == f"{version('vlmadapt')}\n"


def test_json_has_versions_device_and_plugins_of_other_distributions(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in = PluginInfo("method", "coop", "vlmadapt", "0.1.0", "a:B", "ok", None)
    others = PluginInfo("method", "bias", "vlmadapt-bias", "3.2", "c:D", "broken: no module c", None)
    monkeypatch.setattr("vlmadapt.registry.listing.list_plugins", lambda: [built_in, others])
    found = json.loads(call(capsys, "--version", "--json").out)
    assert found["plugin_api"] == API_VERSION
    assert found["libraries"]["vlmadapt"] == version("vlmadapt")
    assert found["libraries"]["torch"] == version("torch")
    assert found["gpu"] == (torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    assert found["cuda"] == torch.version.cuda
    assert found["plugins"] == [
        {
            "kind": "method",
            "name": "bias",
            "distribution": "vlmadapt-bias",
            "version": "3.2",
            "status": "broken: no module c",
        }
    ]


def test_other_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--jsno" in call(capsys, "--version", "--jsno").mistake()


def test_help_names_it() -> None:
    assert "vlmadapt --version --json" in HELP
