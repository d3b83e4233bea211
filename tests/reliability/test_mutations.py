"""Mutated files: the same numbers or one sentence; never a traceback, never another number, never a hang.

`VLMADAPT_MUTATIONS=1000 pytest -m slow tests/reliability/test_mutations.py` tries a thousand; by default it is 200.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import call
from tests.data.pictures import picture
from tests.reliability.mutations import mutated
from tests.training.test_resume import after_step, ask_to_stop
from tests.world import World, outcome
from vlmadapt.files import content_sha256
from vlmadapt.runs.interrupt import Interrupted

pytestmark = pytest.mark.slow
MUTATIONS = int(os.environ.get("VLMADAPT_MUTATIONS", "200"))
SECONDS = 20.0

Capture = pytest.CaptureFixture[str]
Numbers = Any


def sealed(folder: Path) -> None:
    """Leave everything as it is."""


@dataclass(frozen=True)
class Subject:
    """A kind of file, and the command that reads it.

    Attributes:
        file: path below the subject's folder.
        arguments: command, given that folder.
        numbers: what the command left, given what it printed and the folder; None where any valid content has
            numbers of its own.
        prepare: act on the folder after the mutation, for example to remove checksums.
    """

    file: str
    arguments: Callable[[Path], list[str]]
    numbers: Callable[[str, Path], Numbers] | None = None
    prepare: Callable[[Path], object] = sealed


def unsealed(folder: Path) -> None:
    """Make the run one of an older version, which has no checksums."""
    path = folder / "run" / "result.json"
    with suppress(ValueError, AttributeError):
        content = json.loads(path.read_text())
        path.write_text(json.dumps({k: v for k, v in content.items() if k not in ("format", "files", "sha256")}))


def resealed(folder: Path) -> None:
    """Give the adapter's configuration the checksum that fits, as somebody who changes it on purpose does."""
    path = folder / "run" / "adapter" / "adapter_config.json"
    with suppress(ValueError, AttributeError):
        content = json.loads(path.read_text())
        content.pop("config_sha256", None)
        path.write_text(json.dumps({**content, "config_sha256": content_sha256(content)}))


def evaluated(printed: str, folder: Path) -> Numbers:
    return [(group["name"], group["correct"], group["total"]) for group in json.loads(printed)["groups"]]


def predicted(printed: str, folder: Path) -> Numbers:
    return printed


def reported(printed: str, folder: Path) -> Numbers:
    return (folder / "report.html").read_text()


def ended(printed: str, folder: Path) -> Numbers:
    return outcome(folder / "stopped")


def evaluate(folder: Path) -> list[str]:
    return ["evaluate", str(folder / "run"), "--json"]


def predict(folder: Path) -> list[str]:
    images = [str(path) for path in sorted((folder / "pictures" / "red_fox").iterdir())[:3]]
    return ["predict", str(folder / "run"), *images, "--json"]


def report(folder: Path) -> list[str]:
    return ["report", str(folder / "run"), "--out", str(folder / "report.html")]


def resume(folder: Path) -> list[str]:
    return ["fit", "--resume", str(folder / "stopped")]


def fit(*more: str) -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        given = ["fit", "--method", "clip", "--backbone", str(folder / "clip"), "--shots", "1", "--workers", "0"]
        return [*given, "--out", str(folder / "new"), *(word.replace("HERE", str(folder)) for word in more)]

    return arguments


SUBJECTS = [
    Subject("run/adapter/adapter_config.json", evaluate, evaluated),
    Subject("run/adapter/adapter_model.safetensors", predict, predicted),
    Subject("run/config.yaml", evaluate, evaluated),
    Subject("run/data.json", evaluate, evaluated),
    Subject("run/data.json", predict, predicted),
    Subject("run/result.json", report, reported),
    Subject("run/answers.json", report, reported),
    Subject("run/metrics.jsonl", report, reported),
    Subject("run/environment.json", report, reported),
    Subject("run/adapter/adapter_config.json", predict, prepare=resealed),
    Subject("run/config.yaml", evaluate, prepare=unsealed),
    Subject("run/data.json", evaluate, prepare=unsealed),
    Subject("run/result.json", report, prepare=unsealed),
    Subject("run/answers.json", report, prepare=unsealed),
    Subject("run/metrics.jsonl", report, prepare=unsealed),
    Subject("run/environment.json", report, prepare=unsealed),
    Subject("clip/open_clip_config.json", predict, predicted),
    Subject("clip/open_clip_model.safetensors", predict, predicted),
    Subject("stopped/state.safetensors", resume, ended),
    Subject("stopped/config.yaml", resume, ended),
    Subject("stopped/data.json", resume, ended),
    Subject("stopped/metrics.jsonl", resume, ended),
    Subject("settings.yaml", fit("--config", "HERE/settings.yaml", "--data", "HERE/pictures")),
    Subject("list.csv", fit("--data", "HERE/list.csv")),
    Subject("classes.txt", fit("--data", "HERE/pictures", "--classes", "HERE/classes.txt")),
    Subject("split.yaml", fit("--data", "HERE/pictures", "--class_split", "HERE/split.yaml")),
    Subject("pictures/red_fox/00.png", fit("--data", "HERE/pictures")),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a backbone, data, a finished run, a stopped run and files of a user."""
    root = tmp_path_factory.mktemp("whole") / "whole"
    world = World.make(root)
    world.fit(root / "run", "coop")
    with after_step(4, ask_to_stop), pytest.raises(Interrupted):
        world.fit(root / "stopped", "coop", train={"epochs": 2})
    names = sorted(path.name for path in world.pictures.iterdir())
    (root / "settings.yaml").write_text("train: {lr: 0.1, betas: [0.5, 0.9], optimizer: adamw}\nseed: 2\nshots: 1\n")
    (root / "classes.txt").write_text("".join(f"{name}: class of {name}\n" for name in names))
    (root / "split.yaml").write_text(json.dumps({"seen": names[:2], "unseen": names[2:]}))
    rows = [f"pictures/{path.parent.name}/{path.name},{path.parent.name}" for path in world.pictures.rglob("*.png")]
    (root / "list.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    picture(root / "unseen.png")
    return root


def run(capsys: Capture, subject: Subject, folder: Path) -> tuple[int, Numbers]:
    """Exit code and numbers of a command.

    Raises:
        BaseException: what would be a traceback.
    """
    began = time.monotonic()
    said = call(capsys, *subject.arguments(folder))
    assert time.monotonic() - began < SECONDS, "a hang"
    if said.code:
        lines = [line for line in said.err.splitlines() if line.startswith("vlmadapt: ")]
        assert said.code == 2 and len(lines) == 1 and said.err.splitlines()[-1] == lines[0], said
        return said.code, None
    return 0, None if subject.numbers is None else subject.numbers(said.out, folder)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda s: f"{s.arguments.__name__}-{s.prepare.__name__}-{s.file}")
def test_a_mutated_file_gives_the_same_numbers_or_one_sentence(
    capsys: Capture, whole: Path, tmp_path: Path, subject: Subject
) -> None:
    chance = random.Random(f"{subject.file} {subject.arguments.__name__}")
    content = (whole / subject.file).read_bytes()
    # Paths inside the files are absolute, so that every copy takes the same place.
    kept = whole.with_name("kept")
    whole.rename(kept)
    outcomes: Counter[str] = Counter()
    wrong: list[str] = []
    try:
        shutil.copytree(kept, whole)
        subject.prepare(whole)
        code, expected = run(capsys, subject, whole)
        assert code == 0
        for number in range(-(-MUTATIONS // len(SUBJECTS))):
            shutil.rmtree(whole)
            shutil.copytree(kept, whole)
            changed = mutated(content, chance)
            (whole / subject.file).write_bytes(changed)
            subject.prepare(whole)
            try:
                code, numbers = run(capsys, subject, whole)
                what = "refused" if code else "accepted" if numbers == expected else "another number"
            except Exception as error:
                what = f"traceback {type(error).__name__}: {error!s:.500}"
            outcomes[what.split()[0]] += 1
            if what not in ("refused", "accepted"):
                (tmp_path / str(number)).write_bytes(changed)
                wrong.append(f"{tmp_path / str(number)}: {what}")
    finally:
        shutil.rmtree(whole, ignore_errors=True)
        kept.rename(whole)
    with capsys.disabled():
        print(f"\n{subject.arguments.__name__} {subject.prepare.__name__} {subject.file}: {dict(outcomes)}")
    assert not wrong, "\n".join(wrong)
