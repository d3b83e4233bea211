"""Prose that people read is plain modern English: words that read as translated stay out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).name

UNWANTED = {
    "behind": "after",
    "beside": "next to",
    "anew": "again",
    "lent": "supplied",
    "mend": "correct",
    "mended": "corrected",
    "cannot be had": "is missing",
    "whoever": "code that",
}
"""Words, and what to write instead."""

_ANY = "|".join(UNWANTED).replace(" ", r"\s+")
PATTERN = re.compile(rf"(?<![a-z])({_ANY})(?![a-z])", re.IGNORECASE)

SOURCES = {
    "vlmadapt": (".py", ".html", ".tmpl", ".md", ".toml", ".yaml"),
    "plugins": (".py",),
    "configs": (".yaml",),
    "docs": (".md", ".svg", ".py"),
    "benchmarks": (".py",),
    "pretraining": (".py", ".md"),
    "examples": (".py", ".md", ".toml", ".yaml"),
    "tests": (".py",),
}
"""Files by folder. Not among them: `tests/parity/oracles`, records of the authors' code."""


def files() -> Iterator[Path]:
    """All files with prose for users, authors of plugins and contributors."""
    for folder, endings in SOURCES.items():
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in endings and path.name != HERE)
    yield from ROOT.glob("*.md")


def unwanted(text: str) -> list[tuple[int, str]]:
    """Line number and text of each unwanted word."""
    found = PATTERN.finditer(text)
    return [(text.count("\n", 0, word.start()) + 1, " ".join(word[0].lower().split())) for word in found]


@pytest.mark.parametrize("folder", [*SOURCES, "."])
def test_no_word_reads_as_translated(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: write '{UNWANTED[word]}' instead of '{word}'"
        for path in files()
        if (path.relative_to(ROOT).parts[0] if path.parent != ROOT else ".") == folder
        for line, word in unwanted(path.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(found)


def test_unwanted_words_are_found_with_their_line() -> None:
    text = "A branch beside the block.\nIt was silent, and amended.\nDone BEHIND training.\nIt cannot\n be had."
    assert unwanted(text) == [(1, "beside"), (3, "behind"), (4, "cannot be had")]


LINK = re.compile(r"\]\((?!https?://|mailto:|#)([^)#\s]+)")
PATHS = re.compile(r"`((?:tests|benchmarks|docs|vlmadapt|plugins|configs|pretraining|examples)/[\w./+-]*\w)/?`")


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda page: page.name)
def test_links_and_paths_in_pages_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    named = [path for path in PATHS.findall(text) if not re.search(r"\bmy[_-]|_my_|NAME", path)]
    missing += [path for path in named if not (ROOT / path).exists()]
    assert not missing, f"{page.name} names files that do not exist: {missing}"
