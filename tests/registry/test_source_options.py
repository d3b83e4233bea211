"""Options that are read from source are those of the imported class."""

from __future__ import annotations

from dataclasses import asdict, fields
from inspect import cleandoc
from pathlib import Path
from typing import Literal, get_type_hints

import pytest

from vlmadapt import registry
from vlmadapt.core.build import method_class
from vlmadapt.core.recipe import Recipe
from vlmadapt.core.wrapper import Wrapper
from vlmadapt.registry.source_options import read_source_options

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]


def docs(config: type) -> list[str]:
    """Docstrings of a class and its bases without indentation, which Python removes from 3.13 on."""
    return [cleandoc(base.__doc__ or "") for base in config.__mro__]


@pytest.mark.parametrize("name", METHODS)
def test_names_types_defaults_and_recipe_are_those_of_the_class(name: str) -> None:
    read = read_source_options(registry.find(registry.METHODS, name).target)
    cls = method_class(name)
    if issubclass(cls, Wrapper):  # its recipe is that of the method inside
        assert read is None
        return
    assert read is not None
    assert asdict(read.config()) == asdict(cls.Config())
    assert get_type_hints(read.config) == get_type_hints(cls.Config)
    assert docs(read.config) == docs(cls.Config)
    assert Recipe(**read.recipe) == cls.recipe


SOURCE = """
from dataclasses import dataclass, field
from typing import Literal
from vlmadapt.plugin import Method, Recipe

Size = Literal["s", "l"] | None
LAYERS = [1, 2]

@dataclass
class Config:
    size: Size = None
    layers: list[int] = field(default_factory=lambda: LAYERS)
    names: dict[str, float] = field(default_factory=dict)

class Theirs(Method):
    Config = Config
    recipe = Recipe(epochs=3, betas=(0.5, 0.9))
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.syspath_prepend(str(tmp_path))

    def written(source: str) -> str:
        (tmp_path / "kit_options.py").write_text(source)
        return "kit_options:Theirs"

    return written


def test_aliases_unions_and_factories_are_read(write) -> None:  # type: ignore[no-untyped-def]
    read = read_source_options(write(SOURCE))
    assert read is not None
    assert {f.name: f.type for f in fields(read.config)} == {
        "size": Literal["s", "l"] | None,
        "layers": list[int],
        "names": dict[str, float],
    }
    assert asdict(read.config()) == {"size": None, "layers": [1, 2], "names": {}}
    assert read.config().layers is not read.config().layers
    assert read.recipe == {"epochs": 3, "betas": (0.5, 0.9)}


@pytest.mark.parametrize(
    ("stated", "computed"),
    [
        ("size: Size = None", "size: int = len('abc')"),
        ("size: Size = None", "size: int"),
        ("size: Size = None", "size: OfTheirOwn = None"),
        ("lambda: LAYERS", "lambda: list(range(2))"),
        ("default_factory=dict", "default_factory=Method"),
        ("Recipe(epochs=3", "Recipe(epochs=2 * int('3')"),
        ("recipe = Recipe(epochs=3, betas=(0.5, 0.9))", "recipe = other"),
        ("@dataclass\n", ""),
        ("class Config:", "class Config(Theirs):"),
    ],
)
def test_what_is_no_literal_has_to_be_imported(write, stated: str, computed: str) -> None:  # type: ignore[no-untyped-def]
    assert stated in SOURCE
    assert read_source_options(write(SOURCE.replace(stated, computed))) is None
