"""`data check --html`: what was found in a data set as one self-contained page with thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vlmadapt.data.check import HUGE, PARTS, TINY, DataReport, Duplicates
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import write_text
from vlmadapt.report.thumbnails import thumbnail

MOST = 100
"""Groups of images of a kind that are shown; the others are counted."""


@dataclass(frozen=True)
class Finding:
    """One line of the page: images that belong together, and what is wrong with them."""

    paths: tuple[Path, ...]
    words: str


def write_data_page(report: DataReport, out: Path) -> None:
    """Write the page.

    Raises:
        VlmadaptError: jinja2 is missing, or the file cannot be written.
    """
    try:
        from jinja2 import Environment
    except ImportError as error:
        raise VlmadaptError("pages need jinja2: pip install 'vlmadapt[report]'.") from error
    template = (files("vlmadapt.report") / "data.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(template)
    largest = max((c.total for c in report.classes), default=1)
    sections = [(title, found[:MOST], len(found)) for title, found in _sections(report) if found]
    root = Path(report.name).expanduser().absolute()

    def shown(path: Path) -> Path:
        return path.relative_to(root) if path.is_relative_to(root) else path

    content = page.render(
        report=report,
        parts=PARTS,
        largest=largest,
        sections=sections,
        most=MOST,
        thumbnail=thumbnail,
        shown=shown,
    )
    write_text(out, content)


def _sections(report: DataReport) -> Sequence[tuple[str, list[Finding]]]:
    """Titles and findings, what matters most first."""
    wrong = [
        Finding((w.path,), f"labelled {w.label} ({w.probability:.1%}), seems to be {w.seems} ({w.other:.1%})")
        for w in (report.labels.doubted if report.labels else ())
    ]
    conflicts = [Finding(g.paths, _where(g)) for g in report.duplicates if g.conflict]
    others = [Finding(g.paths, _where(g)) for g in report.duplicates if not g.conflict]
    tiny, huge = (
        [Finding((path,), f"{width} x {height} pixels") for path, (width, height) in sizes.items()]
        for sizes in (report.tiny, report.huge)
    )
    return (
        ("Missing or empty files", [Finding((), str(path)) for path in report.missing]),
        ("Images that cannot be read", [Finding((), reason) for reason in report.broken.values()]),
        ("The same image in two classes, or in training and test", conflicts),
        ("Labels that are likely wrong", wrong),
        ("Other duplicates", others),
        (f"Tiny images, below {TINY} pixels on a side", tiny),
        (f"Huge images, above {HUGE // 10**6} megapixels", huge),
    )


def _where(group: Duplicates) -> str:
    return f"{group.what}; {' and '.join(group.classes)}; {' and '.join(group.parts)}"
