"""The page to try a run, asked over HTTP and drawn by a browser."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.command import call
from tests.world import CLASSES, World
from vlmadapt import FitResult, VlmadaptError, load
from vlmadapt.deploy.demo import Demo, build_page
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.run import Run

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def demo(base_to_novel: FitResult) -> Demo:
    return Demo(Run.open(base_to_novel.folder), None, Reporter(main_process=False))


def test_answers_are_those_of_the_run(world: World, base_to_novel: FitResult, demo: Demo) -> None:
    files = [str(path) for path in sorted(world.pictures.glob("*/01.png"))[:2]]
    pictures, probabilities, _ = demo.classify(files, "\n".join(CLASSES))
    expected = list(load(base_to_novel.folder).predict(files, top=len(CLASSES)))
    assert probabilities == dict(expected[0])
    assert [title for _, title in pictures] == [f"{b[0][0]} {100 * b[0][1]:.1f} %" for b in expected]
    assert demo.classify(None, "") == ([], {}, [])


def test_the_class_list_can_be_edited(world: World, demo: Demo) -> None:
    file = str(sorted(world.pictures.glob("*/01.png"))[0])
    assert set(demo.classify([file], "owl\n newt \n\n")[1]) == {"owl", "newt"}
    with pytest.raises(VlmadaptError, match="no classes"):
        demo.classify([file], "\n")


def test_a_training_image_is_closest_to_itself(base_to_novel: FitResult, demo: Demo) -> None:
    assert demo.neighbours is not None
    example = demo.neighbours._examples[3]
    first, second, *_ = demo.neighbours.closest(example.path, 3)
    assert (first.image, first.name) == (example.path, CLASSES[example.label])
    assert first.similarity == pytest.approx(1.0, abs=1e-5) and first.similarity >= second.similarity
    norms = demo.neighbours._features.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_without_gradio_the_demo_says_what_to_install(
    capsys: Capture, base_to_novel: FitResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlmadapt.cli.demo.find_spec", lambda name: None)
    said = call(capsys, "demo", str(base_to_novel.folder))
    assert said.code == 2 and "pip install 'vlmadapt[demo]'" in said.err


@pytest.fixture(scope="module")
def address(demo: Demo) -> Iterator[str]:
    pytest.importorskip("gradio")
    page: Any = build_page(demo)
    _, url, _ = page.launch(server_name="127.0.0.1", quiet=True, prevent_thread_lock=True, share=False)
    yield url
    page.close()


@pytest.mark.slow
def test_the_page_answers_over_http(world: World, base_to_novel: FitResult, address: str) -> None:
    client = pytest.importorskip("gradio_client")
    file = sorted(world.pictures.glob("*/01.png"))[0]
    asked = client.Client(address, verbose=False)
    _, label, closest = asked.predict([client.handle_file(str(file))], "\n".join(CLASSES), api_name="/classify")
    (best, *_) = next(iter(load(base_to_novel.folder).predict([file])))
    assert label["label"] == best[0]
    assert label["confidences"][0]["confidence"] == pytest.approx(best[1])
    assert len(closest) == 5


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_browser_draws_the_page(address: str, tmp_path: Path) -> None:
    assert BROWSER is not None
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--virtual-time-budget=20000"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [BROWSER, *flags, profile, "--dump-dom", address], capture_output=True, text=True, timeout=120, check=False
    )
    for said in ("Drop pictures here", "Classes to choose from", "Closest training images", "Classify"):
        assert said in done.stdout, done.stderr[-300:]
