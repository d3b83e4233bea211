"""Gradient maps and occlusion maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from tests.cli.command import call
from tests.world import World
from vlmadapt import Backbone, FitResult, load, load_backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task
from vlmadapt.deploy.explain import explain
from vlmadapt.deploy.occlusion import GRID, occlusions
from vlmadapt.errors import DataError
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.roles import Role

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

    predictor.classifier.scores_and_certainty = lambda *given: (scores(*given), None)  # type: ignore[method-assign]
    Image.new("RGB", (64, 64), "white").save(tmp_path / "white.png")
    found = explain(predictor, tmp_path / "white.png", "occlusion")
    half = GRID // 2
    assert found.name == predictor.classes[0]
    assert found.evidence[: half - 2, : half - 2].min() > 0.02
    assert found.evidence[half + 4 :, half + 4 :].abs().max() < 1e-6


def test_predict_explains_one_image(capsys: Capture, world: World, base_to_novel: FitResult, tmp_path: Path) -> None:
    image = sorted(world.pictures.glob("*/00.png"))[0]
    out = tmp_path / "why.png"
    said = call(capsys, "predict", str(base_to_novel.folder), str(image), "--explain", str(out))
    assert said.code == 0, said.err
    with Image.open(out) as drawn:
        assert drawn.width == 2 * drawn.height
    assert f"why: {out} (gradient map)" in said.err
    said = call(capsys, "predict", str(base_to_novel.folder), str(image), str(image), "--explain", str(out))
    assert said.code == 2 and "--explain takes one image" in said.err


NAMES, TEMPLATE = ("house", "tree", "apple", "dog"), "a picture of a {}."


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """The embedded one, which has 4 x 4 patches."""
    return load_backbone("tiny")


def predictor_of(backbone: Backbone, name: str) -> Predictor:
    method = build_method(name, backbone, Task(NAMES, (TEMPLATE,)))
    return Predictor(Classifier(backbone, method, (TEMPLATE,)), NAMES, Role.UNKNOWN)


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("row", [0, 1])
def test_the_gradient_map_is_where_the_object_is(backbone: Backbone, tmp_path: Path, row: int, column: int) -> None:
    """A red apple with a green leaf in one quarter of a white image, of which a quarter of the map would be chance."""
    picture = Image.new("RGB", (192, 192), "white")
    draw = ImageDraw.Draw(picture)
    x, y = 96 * column, 96 * row
    draw.ellipse((x + 10, y + 20, x + 86, y + 90), fill="#e33b2e", outline="black", width=4)
    draw.ellipse((x + 50, y + 4, x + 76, y + 20), fill="#5c9e31", outline="black", width=3)
    picture.save(tmp_path / "apple.png")
    found = explain(predictor_of(backbone, "clip"), tmp_path / "apple.png")

    mass = found.evidence.clamp(min=0)
    assert found.kind == "gradient map"
    assert mass[2 * row :, 2 * column :][:2, :2].sum() > 0.5 * mass.sum()


@pytest.mark.parametrize(("name", "because"), [("tda", "depend on earlier images"), ("zero", "several views")])
def test_methods_without_a_gradient_map_get_an_occlusion_map_and_it_is_said_why(
    backbone: Backbone, world: World, monkeypatch: pytest.MonkeyPatch, name: str, because: str
) -> None:
    monkeypatch.setattr("vlmadapt.deploy.occlusion.GRID", 2)
    predictor, image = predictor_of(backbone, name), sorted(world.pictures.glob("*/00.png"))[0]
    before = {key: tensor.clone() for key, tensor in predictor.classifier.stream_state().items()}
    found = explain(predictor, image)
    assert found.kind == "occlusion map" and because in found.because
    torch.testing.assert_close(predictor.classifier.stream_state(), before)
    with pytest.raises(DataError, match=rf"no gradient map: .*{because}"):
        explain(predictor, image, "gradient")


def test_a_closed_tower_gets_an_occlusion_map(
    backbone: Backbone, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vlmadapt.deploy.occlusion.GRID", 2)
    monkeypatch.setattr(backbone.image, "blocks", ())
    found = explain(predictor_of(backbone, "clip"), sorted(world.pictures.glob("*/00.png"))[0])
    assert found.kind == "occlusion map" and "only the output of the image tower" in found.because
