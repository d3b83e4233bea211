"""Plugins of other distributions: found by their entry points, and none of them takes anything down."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from textwrap import dedent
from unittest.mock import Mock

import pytest

from tests import small
from tests.cli.command import call
from vlmadapt import Backbone, load_backbone, registry
from vlmadapt.core.build import build_method, make_config, method_class
from vlmadapt.core.method import Task
from vlmadapt.errors import PluginError, SettingError
from vlmadapt.registry import entry_points

Capture = pytest.CaptureFixture[str]

METHOD = """
from dataclasses import dataclass
from vlmadapt.plugin import Method

@dataclass
class Config:
    '''Options.

    Args:
        size: of it.
    '''
    size: int = 3

class Theirs(Method):
    '''A method of somebody else.'''
    Config = Config
    api_version = 2
"""


class Site:
    """A folder on the path with distributions that are not really installed."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch):
        self.folder = folder
        self.patch = patch

    def install(self, distribution: str, group: str, source: str, **entries: str) -> None:
        """A distribution 1.0 with one module and entry points into it."""
        module = distribution.replace("-", "_")
        (self.folder / f"{module}.py").write_text(dedent(source))
        info = self.folder / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {module}:{target}" for name, target in entries.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
        self.patch.syspath_prepend(str(self.folder))
        self.patch.delitem(sys.modules, module, raising=False)

    def method(self, distribution: str, source: str = METHOD, **entries: str) -> None:
        self.install(distribution, registry.METHODS, source, **entries or {"theirs": "Theirs"})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv("VLMADAPT_PLUGINS", raising=False)
    monkeypatch.delenv("VLMADAPT_STRICT", raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    return Site(folder, monkeypatch)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


TASK = Task(small.NAMES, ("a photo of a {}.",))


def test_a_method_of_another_distribution_is_used_like_a_built_in_one(site: Site, backbone: Backbone) -> None:
    site.method("their-methods")
    assert type(build_method("theirs", backbone, TASK, {"size": 4})).__name__ == "Theirs"
    found = registry.find(registry.METHODS, "theirs")
    assert (found.distribution, found.version) == ("their-methods", "1.0")


def test_listing_plugins_imports_none_of_them(site: Site) -> None:
    site.method("their-methods", "raise SystemExit('imported')")
    assert "theirs" in {plugin.name for plugin in registry.plugins(registry.METHODS)}
    assert "their_methods" not in sys.modules


def test_distributions_are_read_once_until_one_is_installed_or_removed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(wraps=entry_points.entry_points)
    monkeypatch.setattr(entry_points, "entry_points", read)

    def names() -> set[str]:
        return {plugin.name for plugin in registry.plugins(registry.METHODS)}

    site.method("their-methods")
    assert "theirs" in names() and "theirs" in names()
    assert read.call_count == 1
    site.method("your-methods", yours="Theirs")
    assert {"theirs", "yours"} <= names()
    shutil.rmtree(site.folder / "their_methods-1.0.dist-info")
    assert "yours" in names() and "theirs" not in names()


def test_an_unknown_name_is_reported_with_the_nearest_one() -> None:
    with pytest.raises(PluginError, match=r"unknown method 'mapel'\. Did you mean 'maple'\? Known: .*clip"):
        registry.find(registry.METHODS, "mapel")
    with pytest.raises(PluginError, match=r"unknown method 'zzz'\. Known: "):
        registry.find(registry.METHODS, "zzz")


def test_a_name_of_two_distributions_is_ambiguous(site: Site) -> None:
    site.method("their-methods", METHOD.replace("somebody else", "them"))
    site.method("your-methods", METHOD.replace("somebody else", "you"))
    with pytest.raises(PluginError) as refused:
        method_class("theirs")
    assert str(refused.value) == (
        "method 'theirs' is provided by 'their-methods' and 'your-methods'; write 'their-methods:theirs' to say which "
        "one."
    )
    assert method_class("their-methods:theirs").__doc__ == "A method of them."
    assert method_class("your-methods:theirs").__doc__ == "A method of you."


def test_a_name_of_a_built_in_method_may_not_be_taken_over(site: Site) -> None:
    site.method("their-methods", coop="Theirs")
    with pytest.raises(PluginError, match="method 'coop' is provided by 'their-methods' and 'vlmadapt'"):
        method_class("coop")
    assert method_class("vlmadapt:coop").__name__ == "CoOp"


BROKEN = {
    "raises at import": ("raise RuntimeError('no such\\nGPU')", "RuntimeError: no such"),
    "lacks a package": ("import a_package_that_is_missing", "No module named 'a_package_that_is_missing'"),
    "is no Python": ("def", "SyntaxError"),
    "has no such name": ("x = 1", "Theirs"),
    "is no method": ("class Theirs: pass", "is not a subclass of vlmadapt.plugin.Method"),
    "has no config": ("from vlmadapt.plugin import Method\nclass Theirs(Method): pass", "it has no `Config`"),
}
broken = pytest.mark.parametrize(("source", "cause"), BROKEN.values(), ids=BROKEN)


@broken
def test_the_error_of_a_broken_method_names_it_its_distribution_and_the_cause(
    site: Site, source: str, cause: str
) -> None:
    site.method("their-methods", source)
    with pytest.raises(PluginError) as refused:
        method_class("theirs")
    message = str(refused.value)
    assert "method 'theirs' from distribution 'their-methods 1.0'" in message
    assert cause in message
    assert "\n" not in message


def test_broken_methods_are_listed_as_such_and_take_nothing_down(site: Site, capsys: Capture) -> None:
    for number, (source, _) in enumerate(BROKEN.values()):
        site.method(f"broken-{number}", source, **{f"theirs-{number}": "Theirs"})
    said = call(capsys, "methods", "--backbone", "ViT-B-16", "--json")
    assert said.code == 0, said.err
    cards = {card["name"]: card for card in json.loads(said.out)}
    assert not cards["coop"]["broken"]
    for number, (_, cause) in enumerate(BROKEN.values()):
        card = cards[f"theirs-{number}"]
        assert card["broken"]
        assert f"broken-{number} 1.0" in str(card)
        assert cause in str(card).replace("\\", "")
    said = call(capsys, "methods")
    assert said.code == 0
    assert all(f"theirs-{number}" in said.out for number in range(len(BROKEN)))


def test_a_broken_method_is_one_line_on_the_command_line(site: Site, capsys: Capture) -> None:
    site.method("their-methods", "raise RuntimeError('no such GPU')")
    told = call(capsys, "fit", "--method", "theirs").mistake()
    assert told == "method 'theirs' from distribution 'their-methods 1.0' is broken: RuntimeError: no such GPU"


def test_a_broken_distribution_does_not_disturb_the_others(site: Site, backbone: Backbone) -> None:
    site.method("their-methods", "raise RuntimeError")
    assert build_method("coop", backbone, TASK, {"tokens": 2}).config.tokens == 2


def test_an_unknown_option_is_reported_with_the_nearest_one() -> None:
    with pytest.raises(SettingError, match=r"unknown option of CoOp 'token'\. Did you mean 'tokens'\?"):
        make_config(method_class("coop"), {"token": 3})


# -- backbones and data sets ------------------------------------------------------------------------------------------


def test_a_backbone_of_another_distribution_is_loaded_by_its_name(site: Site, tmp_path: Path) -> None:
    folder = small.backbone(tmp_path).name
    for distribution in ("their-backbones", "your-backbones"):
        source = f"def folder(): return {folder!r}"
        site.install(distribution, registry.BACKBONES, source, theirs="folder")
    with pytest.raises(PluginError, match="backbone 'theirs' is provided by 'their-backbones' and 'your-backbones'"):
        load_backbone("theirs")
    assert load_backbone("their-backbones:theirs").fingerprint() == load_backbone(folder).fingerprint()


@pytest.mark.parametrize("source", ["raise OSError('offline')", "def folder(): raise OSError('offline')"])
def test_the_error_of_a_broken_backbone_names_it_its_distribution_and_the_cause(site: Site, source: str) -> None:
    site.install("their-backbones", registry.BACKBONES, source, theirs="folder")
    with pytest.raises(PluginError) as refused:
        load_backbone("theirs")
    assert str(refused.value) == (
        "backbone 'theirs' from distribution 'their-backbones 1.0' is broken: OSError: offline"
    )
    load_backbone("tiny")
