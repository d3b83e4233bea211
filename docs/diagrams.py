"""Diagrams of docs/architecture.md: the layers of the package, and a forward pass.

python docs/diagrams.py            write docs/images/layers.svg and docs/images/forward-pass.svg
"""

from __future__ import annotations

from html import escape
from pathlib import Path

IMAGES = Path(__file__).parent / "images"

INK, MUTED, LINE, PAGE = "#1f2933", "#52606d", "#9aa5b1", "#ffffff"
FROZEN, TRAINED, DATA, PLAIN = "#e4ecf4", "#fbe3d6", "#eef3e2", "#f5f7fa"
SIZE, SMALL = 14, 11.5


class Drawing:
    """An SVG of boxes, arrows and text.

    Args:
        width: width in pixels.
        height: height in pixels.
        title: description for screen readers.
    """

    def __init__(self, width: int, height: int, title: str):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" font-family="Helvetica, Arial, DejaVu Sans, sans-serif">',
            f"<title>{escape(title)}</title>",
            f'<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 Z" fill="{MUTED}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" fill="{PAGE}"/>',
        ]

    def text(
        self, x: float, y: float, words: str, size: float = SIZE, colour: str = INK, anchor: str = "middle"
    ) -> None:
        """A line of text at its baseline."""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'
        )

    def box(self, x: float, y: float, w: float, h: float, name: str, *lines: str, fill: str = PLAIN) -> None:
        """A box with a name and smaller lines below it, centred."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="5" fill="{fill}" stroke="{LINE}" stroke-width="1"/>'
        )
        top = y + h / 2 + SIZE / 3 - 8 * len(lines)
        self.text(x + w / 2, top, name)
        for number, line in enumerate(lines, start=1):
            self.text(x + w / 2, top + 16 * number, line, SMALL, MUTED)

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """An arrow through points."""
        path = " ".join(f"{x},{y}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        style = f'fill="none" stroke="{MUTED}" stroke-width="1.4" marker-end="url(#tip)"{dashes}'
        self.parts.append(f'<polyline points="{path}" {style}/>')

    def write(self, path: Path) -> None:
        """Write the file."""
        path.write_text("\n".join([*self.parts, "</svg>"]) + "\n", encoding="utf-8")


LAYERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("cli", "one file per command; tables"),),
    (
        ("testing", "conformance kit"),
        ("report", "HTML pages"),
        ("deploy", "export, Hub, demo"),
        ("sklearn", "classifier"),
    ),
    (("plugin", "the public plugin API"),),
    (("compare", "grid of runs, tables, statistics"),),
    (("training", "fit, loop, step, checkpoints"),),
    (("evaluation", "accuracy, evaluate, predict"),),
    (("runs", "settings, run folder, progress, lock"),),
    (("core", "backbones, hooks, engine, adapters"), ("data", "data sets, splits, batches")),
    (("registry", "entry points, scaffold"),),
    (("files, validation, shapes, errors", "atomic writes, checks of settings and files, messages"),),
    (("deprecated, roles, text, cores", "small modules without imports of the package"),),
)


def layers() -> Drawing:
    """The layers of the package, as import-linter holds them, and the plugin packages next to it."""
    drawing = Drawing(860, 690, "Layers of vlmadapt; each imports only layers below it")
    drawing.text(290, 28, "vlmadapt: each layer imports only layers below it", SIZE, MUTED)
    left, width, height, step = 30, 520, 46, 58
    for row, names in enumerate(LAYERS):
        w = (width - 12 * (len(names) - 1)) / len(names)
        for column, (name, what) in enumerate(names):
            fill = TRAINED if name == "plugin" else FROZEN if name in ("core", "data") else PLAIN
            drawing.box(left + column * (w + 12), 44 + row * step, w, height, name, what, fill=fill)
    api, registry = 44 + 2 * step + height / 2, 44 + 8 * step + height / 2
    drawing.box(
        640, api - 46, 190, 92, "plugin packages", "methods, data sets,", "backbones, published numbers", fill=DATA
    )
    drawing.arrow((640, api), (554, api))
    drawing.text(597, api - 10, "import", SMALL, MUTED)
    drawing.arrow((550, registry), (735, registry), (735, api + 50), dashed=True)
    drawing.text(640, registry - 10, "find by entry points", SMALL, MUTED)
    return drawing


def forward_pass() -> Drawing:
    """A forward pass: both towers with the method's hooks, features, logits, losses and router."""
    drawing = Drawing(1180, 560, "A forward pass: images and class names through both towers with a method's hooks")
    top, middle, bottom = 60, 190, 400
    drawing.box(300, top - 26, 130, 76, "hooks()", "declared by the", "method, per pass", fill=TRAINED)
    hooks = ((470, "token injection", "TEXT or IMAGE, layer"), (625, "block adapters", "branch at a site"))
    for x, name, what in (*hooks, (780, "projection heads", "read, mean, project")):
        drawing.box(x, top - 16, 145, 56, name, what, fill=TRAINED)
    drawing.arrow((430, top + 12), (466, top + 12))
    for y, source, shape, first, steps in (
        (middle, "images", "(B, 3, H, W)", "patches", "embed, CLS, position"),
        (bottom, "class names", "C names", "token ids", "template, tokenizer, embed"),
    ):
        drawing.box(20, y, 110, 70, source, shape, fill=DATA)
        drawing.box(160, y, 150, 70, first, *steps.split(", ", 1), fill=FROZEN)
        drawing.box(340, y, 110, 70, "frozen blocks", "0 .. f - 1", fill=FROZEN)
        drawing.box(
            480,
            y,
            280,
            70,
            "blocks f .. L - 1",
            "inject tokens, then block with branches;",
            "last block: tokens read",
            fill=FROZEN,
        )
        drawing.box(790, y, 130, 70, "heads", "final norm, mean,", "projection", fill=FROZEN)
        for x in (130, 310, 450, 760):
            drawing.arrow((x, y + 35), (x + 26, y + 35))
    for x in (542, 697, 852):
        drawing.arrow((x, top + 40), (x, middle - 4))
    drawing.text(480, 296, "f: first layer that a hook touches; L: depth.", SMALL, MUTED, "start")
    drawing.text(480, 314, "The text tower has the same three hook points.", SMALL, MUTED, "start")
    drawing.box(330, 325, 130, 44, "FrozenCache", "by class list", fill=PLAIN)
    drawing.arrow((395, 369), (395, bottom - 4), dashed=True)
    drawing.box(160, 290, 150, 44, "FrozenImages", "by batch", fill=PLAIN)
    drawing.arrow((310, 305), (395, 305), (395, middle + 74), dashed=True)
    drawing.box(790, 325, 130, 44, "KeptText", "in evaluation", fill=PLAIN)
    drawing.arrow((855, 369), (855, bottom - 4), dashed=True)
    drawing.arrow((920, middle + 35), (975, middle + 35), (975, 296))
    drawing.text(985, middle + 30, "features (B, joint)", SMALL, MUTED, "start")
    drawing.arrow((920, bottom + 35), (975, bottom + 35), (975, 350))
    drawing.text(985, bottom + 40, "features (C, joint)", SMALL, MUTED, "start")
    drawing.box(935, 300, 100, 46, "logits", "scale * cosine", fill=FROZEN)
    drawing.arrow((1035, 312), (1066, 290))
    drawing.arrow((1035, 334), (1066, 358))
    drawing.box(1070, 262, 95, 50, "losses", "named terms", fill=TRAINED)
    drawing.box(1070, 336, 95, 50, "route", "(B, C) scores", fill=TRAINED)
    for x, fill, words in (
        (20, DATA, "input"),
        (110, FROZEN, "frozen backbone, run by the core"),
        (380, TRAINED, "method"),
    ):
        drawing.parts.append(f'<rect x="{x}" y="516" width="16" height="16" rx="3" fill="{fill}" stroke="{LINE}"/>')
        drawing.text(x + 24, 529, words, SMALL, MUTED, "start")
    drawing.text(480, 529, "dashed: kept instead of computed again", SMALL, MUTED, "start")
    return drawing


if __name__ == "__main__":
    layers().write(IMAGES / "layers.svg")
    forward_pass().write(IMAGES / "forward-pass.svg")
