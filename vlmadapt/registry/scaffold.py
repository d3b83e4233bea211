"""Scaffold of a new method's package."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template

from vlmadapt import registry
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import write_text

METHOD_FILES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "README.md.tmpl": "README.md",
    "gitignore.tmpl": ".gitignore",
    "init.py.tmpl": "$package/__init__.py",
    "method.py.tmpl": "$package/method.py",
    "recipe.yaml.tmpl": "$package/recipes/uniform.yaml",
    "recipes.py.tmpl": "$package/recipes/__init__.py",
    "test.py.tmpl": "tests/test_$module.py",
}


def new_method(name: str, folder: Path | None = None) -> list[Path]:
    """Write the package of a method.

    Args:
        name: registered name of the method.
        folder: folder of the package; by default `./vlmadapt-NAME`.

    Returns:
        Paths written, the folder first.

    Raises:
        VlmadaptError: the name is invalid or taken, or the folder is not empty.
    """
    words = _words(name)
    target = folder or Path(words["distribution"])
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise VlmadaptError(f"'{target}' exists already; choose another folder with --out, or another name.")
    templates = files("vlmadapt.registry") / "templates"
    written = [target]
    for source, place in METHOD_FILES.items():
        path = target / Template(place).substitute(words)
        write_text(path, Template((templates / source).read_text(encoding="utf-8")).substitute(words))
        written.append(path)
    return written


def _words(name: str) -> dict[str, str]:
    """Values of the placeholders in the templates.

    Raises:
        VlmadaptError: the name is not a valid package name, or is taken.
    """
    module = name.replace("-", "_")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(module):
        raise VlmadaptError(
            f"'{name}' cannot be a method's name; use lower-case letters, digits and single hyphens, like 'my-method'."
        )
    for plugin in registry.plugins(registry.METHODS):
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
