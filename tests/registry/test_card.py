"""Static cards say what the code says, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest
from vlmadapt.registry.card import read_facts

from vlmadapt import registry
from vlmadapt.core.build import method_class
from vlmadapt.errors import PluginError


def test_built_in_methods() -> None:
    facts = {plugin.name: plugin.facts() for plugin in registry.plugins(registry.METHODS)}
    mmrlpp, kgcoop, probe = facts["mmrl++"], facts["kgcoop"], facts["linear-probe"]
    assert mmrlpp is not None and kgcoop is not None and probe is not None
    assert mmrlpp.hooks == ("inject", "head", "losses", "route")  # all of them MMRL's
    assert mmrlpp.touches == ("text", "image")
    assert kgcoop.hooks == ("prompt", "teacher", "inject", "losses")
    assert kgcoop.touches == ("text",)
    assert probe.needs == ("support images", "validation images", "sklearn")
    assert set(probe.limitations) == {"unseen-classes", "class-order", "added-class", "roles", "one-class"}


def test_they_agree_with_the_classes() -> None:
    for plugin in registry.plugins(registry.METHODS):
        facts, cls = plugin.facts(), method_class(f"{plugin.distribution}:{plugin.name}")
        assert facts is not None
        assert facts.summary == (cls.__doc__ or "").strip().splitlines()[0]
        assert facts.paper == cls.paper
        assert set(facts.touches) == {side.value for side in cls.touches}
        assert facts.limitations == dict(cls.limitations)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "kit_facts"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "inner" / "__init__.py").write_text("from .method import Deep as Shown\nmade = type('Made', (), {})\n")
    (folder / "base.py").write_text(
        "import vlmadapt.plugin as api\n"
        "def branch(): return api.adapt(api.TEXT, 0, None)\n"
        "class Base(api.Method):\n"
        "    paper = 'A, B ' 'and C'\n"
        "    touches = (api.IMAGE,)\n"
        "    def hooks(self): yield branch()\n"
        "    def route(self, x, role): ...\n"
    )
    (folder / "inner" / "method.py").write_text(
        "from ..base import Base as Root\n"
        "from vlmadapt.plugin import inject as enter\n"
        "import scipy.stats\n"
        "class Deep(Root):\n"
        "    '''First line.\n\n    More.'''\n"
        "    api_version = 7\n"
        "    def hooks(self):\n"
        "        yield from super().hooks()\n"
        "        yield enter()\n"
        "class Other(Root):\n"
        "    def hooks(self): return ()\n"
    )
    return folder


def test_bases_aliases_and_helpers_are_followed(package: Path) -> None:
    facts = read_facts("kit_facts.inner:Shown")
    assert facts is not None
    assert facts.summary == "First line."
    assert facts.paper == "A, B and C"
    assert facts.touches == ("image",)
    assert facts.hooks == ("inject", "adapt", "route")
    assert facts.needs == ("scipy",)
    assert facts.api_version == 7
    assert Path(facts.file) == package / "inner" / "method.py"


def test_an_overridden_hook_counts_for_nothing(package: Path) -> None:
    facts = read_facts("kit_facts.inner.method:Other")
    assert facts is not None
    assert facts.hooks == ("route",)


def test_what_has_no_source_has_no_card(package: Path) -> None:
    assert read_facts("kit_facts.inner:made") is None
    assert read_facts("math:sqrt") is None
    with pytest.raises(PluginError, match="does not define 'Nothing'"):
        read_facts("kit_facts.base:Nothing")
    with pytest.raises(PluginError, match="there is no module"):
        read_facts("kit_facts.nothing:Nothing")
