"""Step 1 of the recipe: collect the training phrases of the text tower from WordNet and emoji names.

Reads  WORK/debian  (unpacked Debian `wordnet-base`) and WORK/npm/emojibase-data.
Writes WORK/phrases.json: {"concepts": [...], "groups": {...}, "wordnet": [...]}.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from groups import EMOJI_GROUPS

# WordNet's lexicographer files of things that can be drawn: animals, artifacts, the body, food, natural objects,
# people, phenomena, plants, shapes, substances and times.
DRAWABLE = {5, 6, 8, 13, 17, 18, 19, 20, 25, 27, 28}
SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}


def plain(lemma: str) -> bool:
    """Return whether a lemma is short and lower-case: no proper name, Latin genus name or abbreviation."""
    return bool(re.fullmatch(r"[a-z][a-z' _-]+", lemma)) and lemma.count("_") < 3 and len(lemma) > 2


def wordnet_phrases(folder: Path) -> list[str]:
    """Return nouns, "noun, a type of hypernym" and short glosses of the drawable synsets, without duplicates."""
    synsets: dict[str, tuple[list[str], list[str], str]] = {}
    for line in (folder / "data.noun").read_text().splitlines():
        if line.startswith("  "):  # the licence text at the top
            continue
        head, _, gloss = line.partition("|")
        field = head.split()
        if int(field[1]) not in DRAWABLE:
            continue
        count = int(field[3], 16)
        lemmas = [field[4 + 2 * i] for i in range(count)]
        rest = field[4 + 2 * count :]
        parents = [rest[i + 1] for i, mark in enumerate(rest) if mark in ("@", "@i") and i + 1 < len(rest)]
        synsets[field[0]] = ([x.replace("_", " ") for x in lemmas if plain(x)], parents, gloss.strip())
    phrases: dict[str, None] = {}
    for lemmas, parents, gloss in synsets.values():
        for lemma in lemmas:
            phrases[lemma] = None
        above = [synsets[p][0][0] for p in parents if p in synsets and synsets[p][0]]
        if lemmas and above:
            phrases[f"{lemmas[0]}, a type of {above[0]}"] = None
        short = re.split(r"[;\"(]", gloss)[0].strip()
        if lemmas and 2 <= len(short.split()) <= 8:
            phrases[short.lower()] = None
    return list(phrases)


def emoji_concepts(folder: Path) -> list[dict[str, Any]]:
    """Return one record per emoji without skin tone: its code point, name, keywords and Unicode subgroup."""
    messages = json.loads((folder / "en" / "messages.json").read_text())
    subgroup = {entry["order"]: entry["key"] for entry in messages["subgroups"]}
    concepts = []
    for entry in json.loads((folder / "en" / "data.json").read_text()):
        if "subgroup" not in entry or entry["hexcode"].split("-")[-1] in SKIN_TONES:
            continue
        concepts.append(
            {
                "code": entry["hexcode"],
                "name": entry["label"].lower().replace("flag: ", "flag of "),
                "keywords": [tag.lower() for tag in entry.get("tags", [])],
                "subgroup": subgroup[entry["subgroup"]],
            }
        )
    return concepts


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="keep one WordNet phrase in so many, to try the recipe")
    args = parser.parse_args()
    work: Path = args.work
    concepts = emoji_concepts(work / "npm" / "emojibase-data")
    wordnet = wordnet_phrases(work / "debian" / "usr" / "share" / "wordnet")[:: args.every]
    missing = sorted({c["subgroup"] for c in concepts} - set(EMOJI_GROUPS))
    if missing:
        raise SystemExit(f"groups.py has no caption for the Unicode subgroups {missing}")
    (work / "phrases.json").write_text(
        json.dumps({"concepts": concepts, "groups": EMOJI_GROUPS, "wordnet": wordnet}, indent=1)
    )
    print(f"{len(concepts)} emoji concepts, {len(EMOJI_GROUPS)} groups, {len(wordnet)} WordNet phrases")


if __name__ == "__main__":
    main()
