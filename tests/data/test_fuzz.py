"""Seeded mutations of every file that the data layer reads: a data set or one sentence, never a traceback or a hang."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.pictures import picture
from vlmadapt.data.class_split import read_class_split
from vlmadapt.data.classes import read_class_names, read_name_list
from vlmadapt.data.images import read_image
from vlmadapt.data.load import load_data
from vlmadapt.data.splits import make_splits, manifest
from vlmadapt.errors import VlmadaptError
from vlmadapt.files import write_json

NAMES = ("crow", "newt", "sea lion")
SEEDS: dict[str, bytes] = {
    "list.csv": ("path,label,split\n" + "".join(f"img/{i}.png,{NAMES[i % 3]},train\n" for i in range(6))).encode(),
    "list.jsonl": "".join(
        json.dumps({"path": f"img/{i}.png", "label": NAMES[i % 3]}) + "\n" for i in range(6)
    ).encode(),
    "names.txt": b"crow: Kr\xc3\xa4he\nnewt: Molch\nsea lion: Robbe\n",
    "split.yaml": b"seen: [crow, newt]\nunseen: [sea lion, ape]\n",
    "split.json": b'{"seen": ["crow", "newt"], "unseen": []}',
}
BITS = [
    *(
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\r",
        b"\n",
        b'"',
        b"'",
        b",",
        b";",
        b"\t",
        b":",
        b"[",
        b"{",
        b"&a ",
        b"*a",
        b"\\",
    ),
    *(
        b"../",
        b"/",
        b"1e999",
        b"NaN",
        b"null",
        b"9" * 5000,
        b"[" * 3000,
        "²".encode(),
        "\u202e".encode(),
        b"!!python/object:os.system ",
    ),
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """The content with one to four pieces changed, removed, repeated or moved."""
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(content) + 1)
        end = min(len(content), start + chance.randint(0, 12))
        piece = chance.choice([b"", chance.choice(BITS), content[start:end] * 3, chance.randbytes(3)])
        content = content[:start] + piece + content[end:]
    return content


def read(file: Path) -> None:
    """What a user's command does with such a file."""
    if file.suffix in (".csv", ".jsonl"):
        splits = make_splits(load_data(str(file)), "few-shot", 1, seed=1)
        write_json(file.with_name("data.json"), manifest(splits))
    elif file.suffix == ".txt":
        read_name_list(file)
        read_class_names(file, NAMES)
    else:
        read_class_split(file)


def outcome(act: Callable[[], object]) -> str:
    """Empty where it works, else the one line that says why not."""
    start = time.monotonic()
    try:
        act()
    except VlmadaptError as error:
        message = str(error)
        assert "\n" not in message
        return message
    finally:
        assert time.monotonic() - start < 20
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("name", SEEDS)
def test_mutated_files_are_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / "img" / f"{i}.png")
    chance = random.Random(name)
    outcomes = []
    for _ in range(400):
        (tmp_path / name).write_bytes(mutated(SEEDS[name], chance))
        outcomes.append(outcome(lambda: read(tmp_path / name)))
    assert any(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".webp", ".avif", ".jp2", ".tif", ".bmp", ".tga", ".ppm"])
def test_mutated_images_are_decoded_or_refused_in_one_line(ending: str, tmp_path: Path) -> None:
    content = picture(tmp_path / f"a{ending}").read_bytes()
    chance = random.Random(ending)
    for _ in range(200):
        (tmp_path / f"a{ending}").write_bytes(mutated(content, chance))
        outcome(lambda: read_image(tmp_path / f"a{ending}"))
