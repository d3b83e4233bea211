"""Exported models answer as their run does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.command import call
from tests.world import CLASSES, World
from vlmadapt import FitResult, VlmadaptError, load
from vlmadapt.data.images import read_image
from vlmadapt.data.transforms import test_transform as preprocessing
from vlmadapt.deploy import export as module
from vlmadapt.deploy.export import BOUND, export

Capture = pytest.CaptureFixture[str]


def images(world: World, run: FitResult) -> tuple[list[Path], torch.Tensor]:
    files = sorted(world.pictures.glob("*/0[0-2].png"))[:7]
    transform = preprocessing(run.classifier.backbone.preprocess_config)
    return files, torch.stack([transform(read_image(file)) for file in files])


def check(run: FitResult, world: World, described: dict[str, Any], found: torch.Tensor) -> None:
    """Probabilities of the run's classes, for another number of images than the export has seen."""
    files, _ = images(world, run)
    assert described["labels"] == list(CLASSES)
    for row, best in zip(found, load(run.folder).predict(files, top=len(CLASSES)), strict=True):
        expected = dict(best)
        assert row.tolist() == pytest.approx([expected[name] for name in described["labels"]], abs=BOUND)


def test_torchscript_by_the_command_line(
    capsys: Capture, world: World, base_to_novel: FitResult, tmp_path: Path
) -> None:
    out = tmp_path / "model.pt"
    said = call(capsys, "export", str(base_to_novel.folder), "--to", "torchscript", "--out", str(out))
    assert said.code == 0, said.err
    assert "differ from the run's by at most" in said.out
    described = json.loads((tmp_path / "model.json").read_text())
    assert described["method"] == "mmrl"
    assert described["preprocessing"]["size"] == list(base_to_novel.classifier.backbone.image.size)
    check(base_to_novel, world, described, torch.jit.load(out)(images(world, base_to_novel)[1]))


def test_the_labels_of_another_model_are_kept(base_to_novel: FitResult, tmp_path: Path) -> None:
    """Two models of one name share the file of labels, whose order is that of the probabilities."""
    export(load(base_to_novel.folder, CLASSES), "torchscript", tmp_path / "model.pt")
    before = (tmp_path / "model.json").read_bytes()
    turned = load(base_to_novel.folder, CLASSES[::-1])
    with pytest.raises(VlmadaptError, match=r"'.*model.json' has the labels of 'model.pt', which are others"):
        export(turned, "torchscript", tmp_path / "model.ts")
    assert (tmp_path / "model.json").read_bytes() == before
    export(turned, "torchscript", tmp_path / "model.pt")  # replaces its own labels
    assert json.loads((tmp_path / "model.json").read_text())["labels"] == list(CLASSES[::-1])


def test_a_file_that_is_no_list_of_labels_is_kept(base_to_novel: FitResult, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"accuracy": {}}')
    predictor = load(base_to_novel.folder)
    for name, message in (("result.pt", "is another file"), ("model.json", "another ending")):
        with pytest.raises(VlmadaptError, match=message):
            export(predictor, "torchscript", tmp_path / name)
    assert (tmp_path / "result.json").read_text() == '{"accuracy": {}}'


@pytest.mark.slow
def test_pt2_of_a_method_that_knows_only_its_classes(world: World, tmp_path: Path) -> None:
    run = world.fit(tmp_path / "run", "tip-adapter-f")
    written = export(load(run.folder), "pt2", tmp_path / "model.pt2")
    program = torch.export.load(io.BytesIO(written.model.read_bytes())).module()
    check(run, world, json.loads(written.labels.read_text()), program(images(world, run)[1]))


@pytest.mark.slow
def test_onnx_in_onnxruntime(world: World, base_to_novel: FitResult, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    written = export(load(base_to_novel.folder), "onnx", tmp_path / "model.onnx")
    assert written.difference is not None and written.difference <= BOUND
    session = runtime.InferenceSession(written.model.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": images(world, base_to_novel)[1].numpy()})
    check(base_to_novel, world, json.loads(written.labels.read_text()), torch.from_numpy(found))


def test_a_method_that_encodes_the_names_for_each_image_is_refused(world: World, tmp_path: Path) -> None:
    run = world.fit(tmp_path / "run", "cocoop", train={"epochs": 1})
    with pytest.raises(VlmadaptError, match="CoCoOp encodes the class names again for each image"):
        export(load(run.folder), "pt2", tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()


def test_another_answer_is_not_written(
    base_to_novel: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(content: bytes, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), len(CLASSES)), 0.25)

    monkeypatch.setitem(module._READERS, "torchscript", wrong)
    with pytest.raises(VlmadaptError, match=r"differ by up to .* nothing was written"):
        export(load(base_to_novel.folder), "torchscript", tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []
