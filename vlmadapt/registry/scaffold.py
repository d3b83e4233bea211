"""Scaffold of the package of a new method, data set or backbone."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from string import Template

from vlmadapt import registry
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import replacing, write_text

METHOD_KINDS = {
    "tokens": "learned tokens in the image tower",
    "branch": "a branch in the blocks of the image tower",
    "head": "a map of the image feature, trained on cached features",
    "classes": "a vector for each training class, trained on cached features",
    "stream": "prototypes of the test images, nothing trained",
    "wrapper": "another method, with a loss term and a way of scoring of its own",
}
"""What the method of each scaffold does; the first is the default."""
FIT_OPTIONS = {"classes": " --protocol few-shot"}
"""What `vlmadapt fit` needs for a kind of method on data that is split into base and novel classes."""
METHOD, DATASET, BACKBONE = "method", "dataset", "backbone"
COMMON = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "init.py.tmpl": "$package/__init__.py",
}
UNNAMED = {"gitignore.tmpl": ".gitignore", "py.typed.tmpl": "$package/py.typed"}
"""Files that are the same whatever is written."""
COLOURS = {"red": (200, 30, 30), "green": (30, 160, 30), "blue": (30, 30, 200), "yellow": (220, 200, 30)}
"""Classes of the scaffold of a data set."""


def new_method(name: str, folder: Path | None = None, kind: str = "tokens") -> list[Path]:
    """Write the package of a method.

    Args:
        name: registered name of the method.
        folder: folder of the package; by default `./vlmadapt-NAME`.
        kind: what the method does, one of `METHOD_KINDS`.

    Returns:
        Paths written, the folder first.

    Raises:
        VlmadaptError: the name is invalid or taken, or the folder is not empty.
    """
    own = {
        f"{kind}.py.tmpl": "$package/method.py",
        f"{kind}.yaml.tmpl": "$package/recipes/uniform.yaml",
        "recipes.py.tmpl": "$package/recipes/__init__.py",
        "test.py.tmpl": "tests/test_$module.py",
    }
    words = {**_words(name, METHOD, registry.METHODS), "fit_options": FIT_OPTIONS.get(kind, "")}
    return _write(METHOD, words, folder, own)


def new_dataset(name: str, folder: Path | None = None) -> list[Path]:
    """Write the package of a data set, with a few images; arguments, result and errors are those of `new_method`."""
    words = _words(name, "data set", registry.DATASETS)
    own = {"dataset.py.tmpl": "$package/dataset.py", "test.py.tmpl": "tests/test_$module.py"}
    return [*_write(DATASET, words, folder, own), *_write_squares(words, folder)]


def new_backbone(name: str, folder: Path | None = None) -> list[Path]:
    """Write the package of a backbone; arguments, result and errors are those of `new_method`."""
    own = {"backbone.py.tmpl": "$package/backbone.py", "test.py.tmpl": "tests/test_$module.py"}
    return _write(BACKBONE, _words(name, BACKBONE, registry.BACKBONES), folder, own)


def _write(what: str, words: dict[str, str], folder: Path | None, own: dict[str, str]) -> list[Path]:
    """Fill in the templates of a package."""
    target = folder or Path(words["distribution"])
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise VlmadaptError(f"'{target}' exists already; choose another folder with --out, or another name.")
    templates = files("vlmadapt.registry") / "templates"
    sources = {f"{what}/{source}": place for source, place in {**COMMON, **own}.items()}
    written = [target]
    for source, place in {**sources, **UNNAMED}.items():
        path = target / Template(place).substitute(words)
        write_text(path, Template((templates / source).read_text(encoding="utf-8")).substitute(words))
        written.append(path)
    return written


def _write_squares(words: dict[str, str], folder: Path | None) -> Iterator[Path]:
    """Small pictures of coloured squares, a folder for each part and class."""
    from PIL import Image

    images = (folder or Path(words["distribution"])) / words["package"] / "images"
    for part, first in (("train", 0), ("test", 4)):
        for name, colour in COLOURS.items():
            for number in range(first, first + 4):
                path = images / part / name / f"{number}.png"
                with replacing(path) as (temporary,):
                    shade = tuple(max(channel - 3 * number, 0) for channel in colour)
                    Image.new("RGB", (32, 32), shade).save(temporary, "PNG")
                yield path


def _words(name: str, what: str, group: str) -> dict[str, str]:
    """Values of the placeholders in the templates.

    Raises:
        VlmadaptError: the name is not a valid package name, or is taken.
    """
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise VlmadaptError(
            f"'{name}' cannot be a {what}'s name; use lower-case letters, digits and single hyphens, like 'my-{what}'."
        )
    for plugin in registry.plugins(group):
        if plugin.name == name:
            raise VlmadaptError(f"there is a {plugin} already; choose another name.")
    return {
        "name": name,
        "distribution": f"vlmadapt-{name}",
        "package": f"vlmadapt_{module}",
        "module": module,
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "api": str(registry.API_VERSION),
    }
