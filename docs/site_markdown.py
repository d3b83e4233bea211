"""Pages that are written for a code host, as the site needs them: links to files, and code blocks with a file name.

A hook of MkDocs (`hooks` in mkdocs.yml).
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "CODE_OF_CONDUCT.md")
"""Files of the repository's root that the site has as pages."""

LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?!https?://|mailto:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")

PICTURE = re.compile(r"^!\[[^\]]*\]\((?P<file>[^)\s]+)\)$", re.M)
"""A picture on a line of its own."""

FENCE = re.compile(r"^```(?P<language>\w+) file=(?P<file>\S+)$", re.M)
"""Start of a code block that is part of a file, as in the plugin guide."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root."""
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let each link lead to a page of the site, pictures open in full size, and name files above their code."""
    source = ROOT if page.file.src_uri in ROOT_PAGES else (DOCS / page.file.src_uri).parent
    linked = LINK.sub(lambda link: site_link(link, source, (DOCS / page.file.src_uri).parent), markdown)
    opened = PICTURE.sub(r"[\g<0>](\g<file>)", linked)
    return FENCE.sub(r'```\g<language> title="\g<file>"', opened)


def site_link(link: re.Match[str], source: Path, place: Path) -> str:
    """A link as the site needs it.

    Args:
        link: a link in Markdown.
        source: folder of the file that has the link.
        place: folder of the page on the site, as if it were in `docs/`.

    Returns:
        A link to a page, or the text alone, as code, where the site has no such page.
    """
    target = Path(os.path.normpath(source / link["path"]))
    address = site_address(target, link["anchor"] or "")
    if address is None:
        return link["text"] if "`" in link["text"] else f"`{link['text']}`"
    return f"[{link['text']}]({Path(os.path.relpath(DOCS, place)).as_posix()}/{address})"


def site_address(file: Path, anchor: str) -> str | None:
    """Page and anchor, relative to the site's root, for a file of the repository; None if the site does not have it."""
    if file == ROOT / "README.md":
        return "methods/index.md" if anchor == "#methods" else "index.md"
    if file.is_relative_to(DOCS):
        return file.relative_to(DOCS).as_posix() + anchor
    return file.name + anchor if file.parent == ROOT and file.name in ROOT_PAGES else None
