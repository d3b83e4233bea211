"""A broken or foreign plugin cannot break the others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.plugin_kit.distributions import METHOD, distribution
from vlmadapt import registry
from vlmadapt.core.build import method_class
from vlmadapt.errors import PluginError
from vlmadapt.registry.listing import list_plugins, plugin_info


class Site:
    """A folder on the path that distributions are put in."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, name: str, entry: str, source: str = METHOD, attribute: str = "Plain") -> None:
        distribution(self.folder, name, {entry: f"{name.replace('-', '_')}:{attribute}"}, source)

    def status(self, entry: str) -> str:
        return next(info.status for info in list_plugins("method") if info.name == entry)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv(registry.ONLY, raising=False)
    monkeypatch.delenv(registry.STRICT, raising=False)
    return Site(tmp_path)


def test_a_plugin_is_found_and_loaded(site: Site) -> None:
    site.add("kit-plain", "plain")
    assert site.status("plain") == "ok"
    assert method_class("plain").__name__ == "Plain"
    assert method_class("kit-plain:plain") is method_class("plain")


BROKEN: Mapping[str, tuple[str, str]] = {
    "raises": ("import os\nraise RuntimeError('no licence\\nfound')\n" + METHOD, "RuntimeError: no licence"),
    "exits": ("import sys\nsys.exit('bye')\n" + METHOD, "SystemExit: bye"),
    "syntax": ("class Plain(:\n", "SyntaxError"),
    "other": ("class Other: pass\n", "Plain"),
    "nomethod": ("class Plain: pass\n", "is not a subclass of vlmadapt.plugin.Method"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plugin_is_a_sentence_and_others_work(site: Site, kind: str) -> None:
    source, cause = BROKEN[kind]
    site.add(f"kit-{kind}", kind, source)
    with pytest.raises(PluginError, match=f"method '{kind}' from distribution 'kit-{kind} 1.0' is broken") as error:
        method_class(kind)
    assert cause in str(error.value)
    assert "\n" not in str(error.value)
    assert method_class("clip")
    assert all(info.status == "ok" for info in list_plugins() if info.distribution == "vlmadapt")


def test_what_is_wrong_with_the_source_shows_in_the_list(site: Site) -> None:
    site.add("kit-syntax2", "bad-syntax", BROKEN["syntax"][0])
    site.add("kit-other2", "bad-name", BROKEN["other"][0])
    distribution(site.folder, "kit-nowhere", {"bad-module": "kit_is_nowhere.at_all:Plain"})
    assert site.status("bad-syntax") == "broken: SyntaxError: invalid syntax (kit_syntax2.py, line 1)"
    assert site.status("bad-name") == "broken: 'kit_other2' does not define 'Plain'"
    assert site.status("bad-module").startswith("broken: ModuleNotFoundError")


def test_strict_raises_what_happened(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("kit-strict", "strict", "raise RuntimeError('no licence')\n" + METHOD)
    monkeypatch.setenv(registry.STRICT, "1")
    with pytest.raises(RuntimeError, match="no licence"):
        method_class("strict")


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        (registry.API_VERSION + 1, "install a newer version of vlmadapt, or an older one of 'kit-api"),
        (0, "install a newer version of 'kit-api"),
    ],
)
def test_another_plugin_api_is_refused_before_the_import(site: Site, version: int, advice: str) -> None:
    source = "raise ImportError('a name of another API')\n" + METHOD.replace(
        "api_version = 2", f"api_version = {version}"
    )
    site.add(f"kit-api{version}", f"api{version}", source)
    assert site.status(f"api{version}").startswith("incompatible: ")
    with pytest.raises(PluginError, match=f"written for plugin API {version}, this vlmadapt supports 1-2") as error:
        method_class(f"api{version}")
    assert advice in str(error.value)


def test_a_computed_api_version_is_checked_too(site: Site) -> None:
    site.add("kit-computed", "computed", METHOD.replace("api_version = 2", "api_version = 90 + 9"))
    with pytest.raises(PluginError, match="plugin API 99"):
        method_class("computed")


def test_a_clash_names_both_and_can_be_resolved(site: Site) -> None:
    site.add("kit-clash", "coop")
    statuses = {info.distribution: info.status for info in list_plugins("method") if info.name == "coop"}
    assert statuses["kit-clash"] == "clash: 'vlmadapt' has this name too; write 'kit-clash:coop'"
    with pytest.raises(PluginError, match="provided by 'kit-clash' and 'vlmadapt'; write 'kit-clash:coop'"):
        method_class("coop")
    assert method_class("vlmadapt:coop").__name__ == "CoOp"
    assert method_class("kit-clash:coop").__name__ == "Plain"
    with pytest.raises(PluginError, match="provided by"):
        plugin_info("coop")


def test_plugins_can_be_switched_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.add("kit-one", "one")
    site.add("kit-two", "two")
    site.add("kit-coop", "coop")
    monkeypatch.setenv(registry.ONLY, "off")
    assert method_class("coop").__name__ == "CoOp"
    with pytest.raises(
        PluginError, match=r"'one' from distribution 'kit-one 1\.0' is switched off by VLMADAPT_PLUGINS=off"
    ):
        method_class("one")
    monkeypatch.setenv(registry.ONLY, "kit-one")
    assert method_class("one")
    with pytest.raises(PluginError, match="switched off"):
        method_class("two")
    monkeypatch.setenv(registry.ONLY, "one, two")
    assert method_class("two")


def test_damaged_metadata_take_nothing_down(site: Site) -> None:
    (distribution(site.folder, "kit-damaged", {}) / "entry_points.txt").write_text("[vlmadapt.methods]\nnonsense\n")
    site.add("kit-fine", "fine")
    assert method_class("fine")
    assert method_class("clip")
    damaged = [info for info in list_plugins() if info.distribution == "kit-damaged"]
    assert [info.status for info in damaged] == ["broken: its entry_points.txt cannot be read"]


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"Did you mean 'mmrl\+\+'"):
        plugin_info("mmrl+")
    with pytest.raises(PluginError, match="unknown backbone"):
        plugin_info("coop", "backbone")
