from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tests.compare import fake
from vlmadapt.compare.quality import qualities
from vlmadapt.compare.record import Entry
from vlmadapt.errors import VlmadaptError
from vlmadapt.report.classes import group_scores
from vlmadapt.report.content import data_titles
from vlmadapt.report.mistakes import find_mistakes
from vlmadapt.report.report import report
from vlmadapt.runs.run import Run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
METHODS = ("clip", "coop", "mmrl", "mmrl++", "tip-adapter-f")
HEIGHT = 3000
"""Pixels of the page that are drawn: the tables, the legend and some charts."""


class Page(HTMLParser):
    """What a browser would load, and the ids."""

    def __init__(self, text: str):
        super().__init__()
        self.sources: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        self.sources += [value for name in ("src", "href", "xlink:href") if (value := found.get(name))]
        self.ids += [value for name in ("id",) if (value := found.get(name))]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    fake.comparison(folder / "compared", METHODS, ("alpha", "beta"), shots=(1, 16))
    return report([folder / "compared"], folder / "report.html")


def test_the_page_is_self_contained(page: Path) -> None:
    found = Page(page.read_text())
    assert all(source.startswith(("data:", "#")) for source in found.sources)
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert len(found.ids) == len(set(found.ids))
    assert "url(http" not in page.read_text() and "@import" not in page.read_text()


def test_the_page_has_every_section_and_escapes_names(page: Path) -> None:
    text = page.read_text()
    for said in ("base against novel", "few-shot curves", "against trained parameters", "against time per step",
                 "training loss", "95 % bootstrap intervals", "Most confused classes", "Worst mistakes", "Notes",
                 "average of 2 data sets", "Confusion matrix", "Reliability", "Scores of the classes",
                 "base/0.png", "What these numbers say", "differences from clip", "More than accuracy",
                 "Each data set"):  # fmt: skip
        assert said in text
    assert "&lt;owl&gt;" in text and "<owl>" not in text
    assert "#010203" not in text and "#040506" not in text


def test_the_page_is_the_same_again(page: Path) -> None:
    again = report([page.parent / "compared"], page.with_name("again.html"))
    assert again.read_text() == page.read_text()


def test_single_runs_are_reported(tmp_path: Path) -> None:
    run = fake.run(tmp_path / "run", "coop", "alpha", 16, 1, 0.7)
    text = report([run], tmp_path / "report.html").read_text()
    assert "<h2>What these numbers say" not in text and "training accuracy" in text


def test_a_page_of_runs_has_chance_and_zero_shot_below_the_methods_and_no_empty_column(tmp_path: Path) -> None:
    known = {"chance": {"base": 50.0, "novel": 50.0, "harmonic_mean": 50.0},
             "zero_shot": {"base": 61.25, "novel": 63.75, "harmonic_mean": 62.48}}  # fmt: skip
    runs = [fake.run(tmp_path / name, name, "alpha", 16, 1, 0.7, **known) for name in ("coop", "mmrl")]
    text = report(runs, tmp_path / "report.html").read_text()
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    (zero_shot,) = [row for row in rows if row[:1] == ["zero-shot"]]
    assert zero_shot[1:4] == ["61.25", "63.75", "62.48"]
    assert ["chance", "50.00", "50.00", "50.00"] in [row[:4] for row in rows]
    assert "test img" not in text, "no run tested at a speed that can be compared"
    assert str(runs[1]) in text


def test_runs_that_a_table_cannot_tell_apart_are_refused(tmp_path: Path) -> None:
    runs = [fake.run(tmp_path / name, "coop", "alpha", 16, 1, 0.7) for name in ("a", "b")]
    with pytest.raises(VlmadaptError, match=r"'.*a' and '.*b' are both coop on alpha with seed 1"):
        report(runs, tmp_path / "report.html")


def test_data_sets_of_the_same_name_are_told_apart_by_their_paths() -> None:
    found = data_titles(["/x/one/photos", "/x/two/photos", "/x/two/icons"])
    assert found == {"/x/one/photos": "one/photos", "/x/two/photos": "two/photos", "/x/two/icons": "icons"}
    assert data_titles(["a/b/c/d", "x/b/c/d"]) == {"a/b/c/d": "a/b/c/d", "x/b/c/d": "x/b/c/d"}


def test_scores_of_classes_are_summed_over_seeds(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("coop",), seeds=(1, 2))
    base, novel = group_scores(made.entries)
    assert (base.name, novel.name, base.classes) == ("base", "novel", 2)
    answers = [Run(entry.folder).answers() for entry in made.entries]
    chosen = [found[0]["chosen"] for found in answers if found]
    for actual, row in enumerate(base.matrix):
        for predicted, cell in enumerate(row):
            assert cell.count == sum(run[i] == predicted for run in chosen for i in range(actual, fake.IMAGES, 2))
            assert cell.share == cell.count / fake.IMAGES
    assert base.matrix[0][1].title == f"cat, predicted as dog: {base.matrix[0][1].count} of 40"


def test_reliability_compares_confidence_with_accuracy_bin_by_bin(tmp_path: Path) -> None:
    run = fake.run(tmp_path / "run", "coop", "alpha", 16, 1, 0.7)
    answers = json.loads((run / "answers.json").read_text())[:1]
    # images 0 and 2 are of class 0, 1 and 3 of class 1; all others are rightly answered with certainty
    answers[0]["chosen"] = [0, 0, 0, 0, *(i % 2 for i in range(4, 40))]
    answers[0]["confidence"] = [0.62, 0.64, 0.95, 0.85, *36 * [1.0]]
    (run / "answers.json").write_text(json.dumps(answers))
    (found,) = group_scores([Entry("coop", "alpha", 16, 1, run)])
    assert [(b.confidence, b.accuracy, b.images) for b in found.bins] == [
        (pytest.approx(0.63), 0.5, 2), (0.85, 0.0, 1), (pytest.approx((0.95 + 36) / 37), 1.0, 37)]  # fmt: skip
    assert found.calibration_error == pytest.approx((2 * 0.13 + 0.85 + 0.05) / 40)


def test_the_calibration_error_of_a_diagram_is_that_of_the_table(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("coop",), seeds=(1, 2))
    for number, entry in enumerate(made.entries):
        answers = json.loads((entry.folder / "answers.json").read_text())
        answers[0]["confidence"] = [0.5 + (7 * i + 3 * number) % 40 / 100 for i in range(40)]
        (entry.folder / "answers.json").write_text(json.dumps(answers))
    base, _ = group_scores(made.entries)
    (quality,) = qualities(made)
    assert 100 * base.calibration_error == pytest.approx(quality.values["ECE", "seen"].mean)


def test_nothing_to_report_is_said(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip",), seeds=(1,))
    (made.entries[0].folder / "result.json").unlink()
    with pytest.raises(VlmadaptError, match="nothing to report"):
        report([tmp_path], tmp_path / "report.html")
    with pytest.raises(VlmadaptError, match="does not exist"):
        report([tmp_path / "nowhere"], tmp_path / "report.html")


def test_mistakes_are_counted_over_seeds(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("coop",))
    found = find_mistakes(made.entries, worst=1000, pairs=1000)
    assert found is not None and found.runs == 3
    wrong = sum(mistake.seeds for mistake in found.worst)
    results = [entry.result() for entry in made.entries]
    right = sum(r["accuracy"][group] / 100 * fake.IMAGES for r in results if r for group in ("base", "novel"))
    assert wrong == round(3 * 2 * fake.IMAGES - right)
    assert all(a.seeds >= b.seeds for a, b in zip(found.worst, found.worst[1:], strict=False))
    # every class has half of the images of its group, in each of three runs
    assert sum(pair.rate for pair in found.confusions) == pytest.approx(wrong / (3 * fake.IMAGES / 2))


@pytest.mark.processes
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (390, True)])
def test_a_browser_draws_the_page(page: Path, tmp_path: Path, width: int, dark: bool) -> None:
    assert BROWSER is not None
    shot = tmp_path / "shot.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
             "--disable-component-update", "--disable-sync", "--disable-quic",
             "--hide-scrollbars"]  # fmt: skip
    mode = ["--blink-settings=preferredColorScheme=0"] if dark else []
    # A window cannot be narrower than 500 pixels, a frame can.
    frame = tmp_path / "frame.html"
    style = f"border: 0; width: {width}px; height: {HEIGHT}px"
    frame.write_text(f'<body style="margin: 0"><iframe src="{page.as_uri()}" style="{style}">')
    where = [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size=1300,{HEIGHT}", f"--screenshot={shot}"]
    done = subprocess.run(
        [BROWSER, *flags, *mode, *where, frame.as_uri()], capture_output=True, text=True, timeout=120, check=False
    )
    assert shot.is_file(), done.stderr[-500:]
    drawn = Image.open(shot).convert("RGB").crop((0, 0, width, HEIGHT))
    paper = drawn.getpixel((4, 4))
    assert isinstance(paper, tuple) and (max(paper) < 60) == dark
    colours = {colour for _, colour in drawn.getcolors(maxcolors=2**24) or ()}
    assert {_rgb(c) for c in re.findall(r'class="marker"[^>]*fill="(#\w{6})"', page.read_text())} <= colours


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))
