"""One page for each method, written from its source, settings files and published numbers when the site is built.

A hook of MkDocs (`hooks` in mkdocs.yml): pages exist only in the site, so they cannot differ from the code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, fields
from functools import cache
from pathlib import Path
from typing import Any

from docstring_parser import parse
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from vlmadapt import registry
from vlmadapt.cli.method_options import method_options
from vlmadapt.plugin import Published
from vlmadapt.registry import Plugin
from vlmadapt.registry.source_info import SourceInfo, read_source_info
from vlmadapt.registry.source_options import read_source_options
from vlmadapt.registry.tracks import ordered, track_title
from vlmadapt.text import counted

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
NAV = "Methods"
README_ROW = re.compile(
    r"^\| `(?P<name>[^`]+)` \| (?P<what>[^|]*) \| (?P<trained>[^|]*) \| (?P<compared>[^|]*) \|$", re.M
)
"""A row of the README's table of methods, which has four columns."""

HEAD = re.compile(r"\A# (?P<about>.*?)  (?P<command>vlmadapt .*)\n")
"""First line of a settings file: what it is for, two spaces, and a command that uses it."""

INTRODUCTION = """\
Each page has the method's equation and notes on its official code, its options and training settings with their
published defaults, its settings files, and published numbers where they are built in. A method that works inside no
tower needs the features alone and runs with every [backbone](../backbones.md). What methods are given differs by
[track](../compare.md#tables)."""

OPTIONS = "Options of the method, on the command line `--method.NAME`:"
SETTINGS = """\
Defaults of the method, on the command line `--train.NAME`; the others are those of
[`Recipe`][vlmadapt.plugin.Recipe]:"""
CLASS = "options: {show_root_heading: false, show_root_toc_entry: false, members: false, show_source: true}"
"""What mkdocstrings shows of a method's class: docstring and source."""

Rows = Sequence[Sequence[object]]


# -- hooks of MkDocs --------------------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages in the navigation."""
    pages = [{name: address(name)} for name in documented()]
    config.nav = [{NAV: ["methods/index.md", *pages]} if NAV in entry else entry for entry in config.nav or []]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    files.append(File.generated(config, "methods/index.md", content=index()))
    for name in documented():
        files.append(File.generated(config, address(name), content=page(name)))
    return files


# -- pages ------------------------------------------------------------------------------------------------------------


def documented() -> dict[str, re.Match[str]]:
    """Rows of the README's table, by method."""
    return {row["name"]: row for row in README_ROW.finditer((ROOT / "README.md").read_text(encoding="utf-8"))}


def address(name: str) -> str:
    """File of a method's page; a plus sign means a space in some addresses."""
    return f"methods/{name.replace('+', 'p')}.md"


def index() -> str:
    """The page that lists all methods."""
    titles = ("name", "method", "works inside", "trainable, ViT-B/16", "compared with")
    rows: dict[str, list[tuple[str, ...]]] = {}
    for name, row in documented().items():
        link = f"[`{name}`]({Path(address(name)).name})"
        cells = (link, row["what"], towers(name), row["trained"], row["compared"])
        rows.setdefault(stated(name).track, []).append(cells)
    tables = [f"## {track_title(track).capitalize()}\n\n{table(titles, rows[track])}" for track in ordered(rows)]
    return "\n\n".join(("# Methods", INTRODUCTION, *tables)) + "\n"


def page(name: str) -> str:
    """The page of a method, in Markdown."""
    return "\n\n".join((f"# {name}", *sections(name))) + "\n"


def sections(name: str) -> Iterator[str]:
    """Parts of a method's page; a part without content is left out."""
    target = find(name).target
    yield f"::: {target.replace(':', '.')}\n    {CLASS}"
    yield "\n".join(f"- {line}" for line in facts(name))
    yield f"```bash\nvlmadapt fit --method {name}\nvlmadapt fit --method {name} --help\n```"
    if options := list(option_rows(method_options(name)[0])):
        yield f"## Options\n\n{OPTIONS}\n\n{table(('name', 'default', 'meaning'), options)}"
    if recipe := recipe_rows(target):
        yield f"## Training settings\n\n{SETTINGS}\n\n{table(('name', 'default'), recipe)}"
    if files := settings_files(name):
        yield "\n\n".join(("## Settings files", f"In `configs/{name}/`:", *files))
    if published := list(published_tables(name)):
        yield "\n\n".join(("## Published numbers", *published))


def facts(name: str) -> Iterator[str]:
    """What a list above the sections says in a line each."""
    info = stated(name)
    if info.paper:
        yield f"**Paper**: {info.paper}"
    yield f"**Works inside**: {towers(name)}"
    row = documented()[name]
    yield f"**Trainable parameters, ViT-B/16**: {row['trained']}"
    yield f"**Compared with**: {row['compared']} ([how](../CONTRIBUTING.md#how-parity-works))"
    for check, reason in info.limitations.items():
        yield f"**Limitation** (check `{check}`): {reason}"


def towers(name: str) -> str:
    """Towers that a method works inside, in words."""
    if any(option.name == "wraps" for option in fields(method_options(name)[0])):
        return "as the method inside"
    touched = stated(name).touches
    return "both towers" if len(touched) > 1 else f"{touched[0]} tower" if touched else "no tower"


def stated(name: str) -> SourceInfo:
    """What the source of a method states about it."""
    return read_source_info(find(name).target) or SourceInfo("")


def find(name: str) -> Plugin:
    """The registered plugin."""
    return registry.find(registry.METHODS, name)


# -- options and settings ---------------------------------------------------------------------------------------------


def option_rows(config: type[Any]) -> Iterator[tuple[str, str, str]]:
    """Name, default and meaning of each option in a dataclass; the docstring of each class has its own options."""
    meaning = {
        parameter.arg_name: " ".join((parameter.description or "").split())
        for cls in reversed(config.__mro__)
        for parameter in parse(cls.__doc__ or "").params
    }
    for option in fields(config):
        yield f"`{option.name}`", f"`{default(option)}`", meaning.get(option.name, "")


def default(option: Field[Any]) -> object:
    """Default of an option, as it would be written in Python."""
    return repr(option.default_factory() if option.default_factory is not MISSING else option.default)


def recipe_rows(target: str) -> list[tuple[str, str]]:
    """Name and value of the training settings that a method states."""
    source = read_source_options(target)
    return [(f"`{name}`", f"`{value}`") for name, value in (source.recipe if source else {}).items()]


def settings_files(name: str) -> list[str]:
    """The two recipes of `vlmadapt compare` in full, and the names of the other files."""
    folder = CONFIGS / name
    main = [folder / "paper.yaml", folder / "uniform.yaml"]
    shown = [settings_file(path) for path in main if path.exists()]
    others = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.yaml")) if path not in main]
    return [*shown, *([f"Also: {', '.join(f'`{other}`' for other in others)}."] if others else [])]


def settings_file(path: Path) -> str:
    """A settings file with its first line as a sentence and a command."""
    text = path.read_text(encoding="utf-8")
    head = HEAD.match(text)
    said = f"{head['about'].rstrip()}\n\n```bash\n{head['command']}\n```\n\n" if head else ""
    return f"### {path.name}\n\n{said}```yaml\n{HEAD.sub('', text).rstrip()}\n```"


# -- published numbers ------------------------------------------------------------------------------------------------


@cache
def all_published() -> tuple[Published, ...]:
    """The numbers of all plugins."""
    found = (one for plugin in registry.plugins(registry.PUBLISHED) for one in plugin.load()())
    return tuple(one for one in found if isinstance(one, Published))  # others are marks of known leaks


def published_tables(name: str) -> Iterator[str]:
    """A table for each source that prints numbers of a method: a row per data set."""
    groups: dict[tuple[str, str], list[Published]] = {}
    for number in all_published():
        if number.method == name:
            groups.setdefault((number.source, number.protocol), []).append(number)
    for (source, protocol), numbers in groups.items():
        flawed = " `*`: contradicts the numbers printed with it." if any(number.flaws for number in numbers) else ""
        shots = " and ".join(str(shots) for shots in sorted({number.shots for number in numbers}))
        yield f"{source}: {protocol}, {shots} shots, {backbones(numbers)}.{flawed}\n\n{published_table(numbers)}"


def published_table(numbers: Sequence[Published]) -> str:
    """Numbers of one source and protocol, with a column for each tested group and number of shots."""
    several = len({number.shots for number in numbers}) > 1
    cells: dict[str, dict[str, str]] = {}
    for number in numbers:
        row = cells.setdefault(data_name(number), {})
        for group, value in number.values.items():
            column = group.replace("_", " ") + (f", {counted(number.shots, 'shot')}" if several else "")
            row[column] = f"{value:.2f}{'*' if group in number.flaws else ''}"
    columns = list(dict.fromkeys(column for row in cells.values() for column in row))
    rows = [(data, *(row.get(column, "") for column in columns)) for data, row in cells.items()]
    return table(("data", *columns), rows, numbers=True)


def data_name(number: Published) -> str:
    """The data set, or how many are averaged over."""
    return min(number.data) if len(number.data) == 1 else f"mean of {len(number.data)} data sets"


def backbones(numbers: Sequence[Published]) -> str:
    """Backbones of published numbers."""
    return " or ".join(sorted({f"`{name}`" for number in numbers for name in number.backbones}))


def table(titles: Sequence[str], rows: Rows, *, numbers: bool = False) -> str:
    """A Markdown table; one of numbers has all columns but the first aligned at the right."""
    lines = [titles, ["---", *["---:" if numbers else "---"] * (len(titles) - 1)], *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
