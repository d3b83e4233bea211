"""Occlusion maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.cli.command import call
from tests.world import World
from vlmadapt import FitResult, load
from vlmadapt.deploy.explain import GRID, explain, occlusions

Capture = pytest.CaptureFixture[str]


def test_the_squares_cover_every_pixel_evenly_but_for_the_border() -> None:
    covered = occlusions(28, 56).sum(dim=0)
    assert covered.min() > 0
    assert covered[8:-8, 16:-16].unique().tolist() == [16]


def test_the_map_shows_the_part_that_decides(base_to_novel: FitResult, tmp_path: Path) -> None:
    """A classifier that answers by the brightness of one quarter of the image."""
    predictor = load(base_to_novel.folder)

    def scores(images: Tensor, names: tuple[str, ...], role: object) -> Tensor:
        height, width = images.shape[2:]
        quarter = images[:, :, : height // 2, : width // 2].mean(dim=(1, 2, 3))
        return torch.stack([quarter, *(torch.zeros_like(quarter) for _ in names[1:])], dim=1)

    predictor.classifier.scores = scores  # type: ignore[method-assign, assignment]
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    found = explain(predictor, tmp_path / "white.png")
    half = GRID // 2
    assert found.name == predictor.classes[0]
    assert found.drops[: half - 2, : half - 2].min() > 0.02
    assert found.drops[half + 4 :, half + 4 :].abs().max() < 1e-6


def test_predict_explains_one_image(capsys: Capture, world: World, base_to_novel: FitResult, tmp_path: Path) -> None:
    image = sorted(world.pictures.glob("*/00.png"))[0]
    out = tmp_path / "why.png"
    said = call(capsys, "predict", str(base_to_novel.folder), str(image), "--explain", str(out))
    assert said.code == 0, said.err
    with Image.open(out) as drawn:
        assert drawn.width == 2 * drawn.height
    assert f"why: {out}" in said.err
    said = call(capsys, "predict", str(base_to_novel.folder), str(image), str(image), "--explain", str(out))
    assert said.code == 2 and "--explain takes one image" in said.err
