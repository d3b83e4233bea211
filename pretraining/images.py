"""Step 4 of the recipe: render the pretraining pictures, each plain, with black contours, and as bare contours.

Reads  WORK/npm/NAME of every set in sources.py and WORK/phrases.json.
Writes WORK/pictures.npy (N, 3, 48, 48, 3) uint8, WORK/pictures.json (one record per picture), and, next to this
script, `pictures.tsv.gz` (set, name, hash of the plain pixels), the list that the leakage test reads.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sources import CLIPART_SETS, EMOJI_SETS, FORBIDDEN, VALIDATION_SET

SIZE = 48
SHAPES = "path,circle,ellipse,rect,polygon"
NOT_CAPTION = re.compile(r"\b(\d+|duo|flat|fill|filled|alt|sm|lg|color)\b")
SKIN = re.compile(r"-(skin-tone|light|medium|dark|medium-light|medium-dark)$")


def squash(name: str) -> str:
    """Reduce a name to lower-case letters and digits, since sets differ in spelling."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def code_names(work: Path, known: set[str]) -> dict[str, str]:
    """Return squashed name -> code point, from emojibase's labels and shortcodes and the tables of the sets."""
    names: dict[str, str] = {}
    base = work / "npm" / "emojibase-data" / "en"
    for entry in json.loads((base / "data.json").read_text()):
        names.setdefault(squash(entry["label"]), entry["hexcode"])
    for package in ("noto", "twemoji", "fluent-emoji-flat"):
        for code, name in json.loads((work / "npm" / package / "chars.json").read_text()).items():
            names.setdefault(squash(name), code.upper())
    for path in sorted((base / "shortcodes").glob("*.json")):
        for code, value in json.loads(path.read_text()).items():
            for name in [value] if isinstance(value, str) else value:
                names.setdefault(squash(name), code)
    return {name: code for name, code in names.items() if code in known or code.replace("-FE0F", "") in known}


def render_view(svg: str, css: str | None = None) -> NDArray[np.uint8]:
    """Render one view of a picture on white, (48, 48, 3)."""
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=64, height=64, background="#fff", style_sheet=css, skip_system_fonts=True
    )
    picture = square(Image.open(io.BytesIO(png)).convert("RGB"))
    return np.asarray(picture.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def render(svg: str, size: float) -> NDArray[np.uint8]:
    """Render three views (3, 48, 48, 3): plain, with black contours, and contours only."""
    contour = f"{SHAPES}{{stroke:#000;stroke-width:{size * 0.027:.3f};stroke-linejoin:round}}"
    return np.stack([render_view(svg), render_view(svg, contour), render_view(svg, f"{contour} {SHAPES}{{fill:none}}")])


def fingerprint(view: NDArray[np.uint8]) -> str:
    """Return the hash of a plain view, as listed in pictures.tsv.gz."""
    return hashlib.sha256(view.tobytes()).hexdigest()[:12]


def square(picture: Image.Image) -> Image.Image:
    """Pad to a square with white."""
    side = max(picture.size)
    out = Image.new("RGB", (side, side), "white")
    out.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return out


def icons(work: Path, package: str) -> list[tuple[str, str, float]]:
    """Return (name, SVG text, side of its view box) for every icon of an npm icon set."""
    data = json.loads((work / "npm" / package / "icons.json").read_text())
    out = []
    for name, icon in data["icons"].items():
        left, top = icon.get("left", 0), icon.get("top", 0)
        width, height = icon.get("width", data.get("width", 16)), icon.get("height", data.get("height", 16))
        body = icon["body"].replace("currentColor", "#222")
        out.append(
            (
                name,
                '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{left} {top} {width} {height}">{body}</svg>',
                float(max(width, height)),
            )
        )
    return out


def caption(name: str) -> str:
    """Convert a file name such as `delivery-truck-3-flat` to a caption."""
    return " ".join(NOT_CAPTION.sub(" ", name.replace("-", " ")).split())


def jobs(work: Path, every: int = 1) -> list[dict[str, Any]]:
    """List every picture to render: set, name, SVG, caption, and code point of its emoji concept if it has one.

    Of each set but the validation artist's, one picture in `every` is listed.
    """
    known = {c["code"] for c in json.loads((work / "phrases.json").read_text())["concepts"]}
    names = code_names(work, known)
    out: list[dict[str, Any]] = []
    for package in [*EMOJI_SETS, *VALIDATION_SET, *CLIPART_SETS]:
        if package in FORBIDDEN or not (work / "npm" / package).exists():
            raise SystemExit(f"the set {package} is forbidden or has not been fetched")
        for name, svg, size in icons(work, package)[:: 1 if package in VALIDATION_SET else every]:
            if SKIN.search(name):
                continue
            words = caption(name)
            code = names.get(squash(name)) or names.get(squash(words))
            if code is not None and code not in known:
                code = code.replace("-FE0F", "")
            if code is None and package not in CLIPART_SETS:
                continue
            if not words or (package in CLIPART_SETS and len(words.split()) > 4):
                continue
            out.append({"set": package, "name": name, "code": code, "caption": words, "svg": svg, "size": size})
    return out


def draw(job: dict[str, Any]) -> NDArray[np.uint8] | None:
    """Render one job; None if the renderer fails."""
    try:
        return render(job["svg"], job["size"])
    except ValueError:
        return None


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="render one training picture in so many")
    args = parser.parse_args()
    todo = jobs(args.work, args.every)
    with ProcessPoolExecutor(args.processes) as pool:
        drawn = list(pool.map(draw, todo, chunksize=100))
    kept = [(job, views) for job, views in zip(todo, drawn, strict=True) if views is not None and views[0].std() > 4]
    np.save(args.work / "pictures.npy", np.stack([views for _, views in kept]))
    records, lines = [], []
    for job, views in kept:
        records.append({k: job[k] for k in ("set", "name", "code", "caption")})
        lines.append(f"{job['set']}\t{job['name']}\t{fingerprint(views[0])}\n")
    (args.work / "pictures.json").write_text(json.dumps(records))
    listing = Path(__file__).parent / "pictures.tsv.gz"
    listing.write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    for package in [*EMOJI_SETS, *VALIDATION_SET, *CLIPART_SETS]:
        rows = [r for r in records if r["set"] == package]
        print(f"{package:28s} {len(rows):5d} pictures, {sum(r['code'] is not None for r in rows):5d} emoji concepts")


if __name__ == "__main__":
    main()
