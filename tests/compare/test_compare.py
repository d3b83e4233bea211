"""The whole way on small pictures with the small random CLIP: plan, run, fail, reuse, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.world import World
from vlmadapt.cli.main import main
from vlmadapt.compare.record import Comparison
from vlmadapt.runs.lock import exclusive
from vlmadapt.runs.run import Run


def arguments(world: World, out: Path, methods: str, *more: str) -> list[str]:
    data, clip = str(world.pictures), str(world.clip)
    fixed = ["--protocol", "base-to-novel", "--seeds", "1", "--shots", "2", "--workers", "0", "--out", str(out)]
    train = ["--train.epochs", "1", "--train.batch_size", "4"]
    return ["compare", "--methods", methods, "--data", data, "--backbone", clip, *fixed, *train, *more]


def test_a_comparison_runs_fails_reuses_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World.make(tmp_path)
    out = tmp_path / "compared"
    with pytest.raises(SystemExit) as stopped:
        main(arguments(world, out, "clip,coop,mmrl", "--jobs", "2"))
    assert stopped.value.code == 2
    said = capsys.readouterr()
    assert "1 of 3 runs failed" in said.err and "1 (1 failed)" not in said.out
    found = {entry.method: entry for entry in Comparison.read(out).entries}
    assert found["clip"].result() and found["coop"].result()
    assert found["mmrl"].error is not None and "layer" in found["mmrl"].error
    assert found["mmrl"].error in (out / "table.md").read_text()
    assert "coop: warm-up shortened from 1 to 0 epochs" in (out / "table.md").read_text()
    assert Run(found["coop"].folder).metrics()[0]["lr"] > 1e-3
    answers = json.loads((found["coop"].folder / "answers.json").read_text())
    assert [group["name"] for group in answers] == ["base", "novel"]

    main(arguments(world, tmp_path / "again", "clip,coop", "--reuse", str(out / "runs"), "--dry_run"))
    said = capsys.readouterr()
    assert "0 of 2 runs remain to be done" in said.out
    main(arguments(world, tmp_path / "again", "clip,coop", "--reuse", str(out / "runs")))
    assert not (tmp_path / "again" / "runs").exists()
    capsys.readouterr()

    result_file = found["coop"].folder / "result.json"
    kept = result_file.read_text()
    result_file.write_text(kept[:20])
    with pytest.raises(SystemExit):
        main(arguments(world, tmp_path / "third", "clip,coop", "--reuse", str(out / "runs"), "--dry_run"))
    error = capsys.readouterr().err
    assert f"'{result_file}' is damaged" in error and error.count("\n") == 1
    result_file.write_text(kept)

    page = tmp_path / "page.html"
    main(["report", str(out), "--out", str(page)])
    text = page.read_text()
    assert "data:image/webp" in text and "Most confused classes" in text
    assert "<script" not in text and 'src="http' not in text


def test_other_settings_are_other_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World.make(tmp_path)
    main(arguments(world, tmp_path / "compared", "clip,coop", "--dry_run"))
    assert "2 of 2 runs remain to be done" in capsys.readouterr().out
    assert not (tmp_path / "compared").exists()


def test_a_preview_counts_apart_what_lacks_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World.make(tmp_path)
    both = ["--data", f"{world.pictures},dtd", "--data_root", str(tmp_path), "--seeds", "1,2", "--dry_run"]
    main(arguments(world, tmp_path / "compared", "clip,coop", *both))
    said = capsys.readouterr().out
    assert "3 of 3 runs remain to be done" in said, "clip once for both seeds"
    assert "4 rows cannot be run without the missing data" in said
    assert "The time of 3 runs is unknown" in said


def test_a_comparison_has_one_owner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World.make(tmp_path)
    with exclusive(tmp_path / "compared"), pytest.raises(SystemExit) as stopped:
        main(arguments(world, tmp_path / "compared", "clip"))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "in use by process" in error and error.count("\n") == 1
    assert not (tmp_path / "compared" / "runs").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no methods given; write --methods"),
        (["--methods", "clip", "--seeds", "x"], "--seeds is 'x'; give numbers"),
        (["--methods", "clop"], "unknown method 'clop'. Did you mean"),
        (["--methods", "clip", "--train.epoks", "3"], "unknown training setting 'epoks'"),
        (["--methods", "clip", "--data", "openmojo"], "unknown data set 'openmojo'"),
        (["--methods", "clip", "--jobs", "0"], "--jobs is 0"),
        (["--methods", "clip", "--launcher", "slrum"], "unknown launcher 'slrum'. Did you mean 'slurm'"),
    ],
)
def test_mistakes_are_one_line(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *given])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and said in error and error.count("\n") == 1
