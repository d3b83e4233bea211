"""Static descriptions state what the code states, without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlmadapt import registry
from vlmadapt.core.build import method_class
from vlmadapt.errors import PluginError
from vlmadapt.registry.source_info import read_source_info


def test_what_is_read_from_the_source_is_what_the_class_has() -> None:
    for plugin in registry.plugins(registry.METHODS):
        info, cls = plugin.source_info(), method_class(f"{plugin.distribution}:{plugin.name}")
        assert info is not None
        assert info.summary == (cls.__doc__ or "").strip().splitlines()[0]
        assert info.paper == cls.paper
        assert (info.track, info.learns) == (cls.track, cls.learns)
        assert set(info.touches) == {side.value for side in cls.touches}
        assert info.limitations == dict(cls.limitations)
        assert info.api_version == cls.api_version


def test_a_subclass_shows_what_it_inherits() -> None:
    info = registry.find(registry.METHODS, "linear-probe").source_info()
    assert info is not None
    assert info.touches == ()  # of SupportMethod
    assert set(info.limitations) == {"unseen-classes", "added-class", "roles", "one-class"}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "kit_source"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (folder / "inner" / "__init__.py").write_text("from .method import Deep as Shown\nmade = type('Made', (), {})\n")
    (folder / "names.py").write_text("VERSION = 7\nREASON = 'it is ' 'slow'\n")
    (folder / "base.py").write_text(
        "import vlmadapt.plugin as api\n"
        "class Base(api.Method):\n"
        "    paper = 'A, B ' 'and C'\n"
        "    touches = (api.IMAGE,)\n"
    )
    (folder / "inner" / "method.py").write_text(
        "from ..base import Base as Root\n"
        "from ..names import REASON, VERSION\n"
        "class Deep(Root):\n"
        "    '''First line.\n\n    More.'''\n"
        "    api_version = VERSION\n"
        "    limitations = {'memory': REASON}\n"
        "class Computed(Root):\n"
        "    api_version = 90 + int('9')\n"
        "class Plain(Root): pass\n"
    )
    (folder / "circle.py").write_text("from kit_source.round import Lost\n")
    (folder / "round.py").write_text("from kit_source.circle import Lost\n")
    return folder


def test_bases_aliases_and_constants_are_followed(package: Path) -> None:
    info = read_source_info("kit_source.inner:Shown")
    assert info is not None
    assert info.summary == "First line."
    assert info.paper == "A, B and C"
    assert info.touches == ("image",)
    assert info.limitations == {"memory": "it is slow"}
    assert info.api_version == 7
    assert Path(info.file) == package / "inner" / "method.py"


def test_a_method_that_states_no_api_version_is_written_for_the_first(package: Path) -> None:
    info = read_source_info("kit_source.inner.method:Plain")
    assert info is not None and info.api_version == 1


def test_what_is_computed_is_not_guessed(package: Path) -> None:
    info = read_source_info("kit_source.inner.method:Computed")
    assert info is not None and info.api_version is None


def test_what_has_no_source_has_no_description(package: Path) -> None:
    assert read_source_info("kit_source.inner:made") is None
    assert read_source_info("math:sqrt") is None
    with pytest.raises(PluginError, match="does not define 'Nothing'"):
        read_source_info("kit_source.base:Nothing")
    with pytest.raises(PluginError, match="there is no module"):
        read_source_info("kit_source.nothing:Nothing")


def test_modules_that_import_each_other_are_an_error_and_not_a_crash(package: Path) -> None:
    with pytest.raises(PluginError, match="imported in a circle"):
        read_source_info("kit_source.circle:Lost")
