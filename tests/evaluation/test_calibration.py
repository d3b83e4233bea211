"""Temperature and thresholds from validation images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.world import CLASSES, World
from vlmadapt import VlmadaptError, load
from vlmadapt.data.images import read_image
from vlmadapt.data.transforms import test_transform as plain_transform
from vlmadapt.errors import DataError
from vlmadapt.evaluation.calibration import certainty, fit_calibration, fit_temperature, probabilities
from vlmadapt.evaluation.predictor import Prediction, Threshold
from vlmadapt.roles import Role


def drawn(temperature: float, n: int = 20_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores whose labels are drawn from the probabilities at a temperature."""
    generator = torch.Generator().manual_seed(0)
    scores = 5 * torch.randn(n, 4, generator=generator)
    return scores, torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator)[:, 0]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_smaller_loss() -> None:
    scores, labels = drawn(2.0, n=50)
    found = fit_temperature(scores, labels)

    def loss(temperature: float) -> float:
        targets = torch.full_like(scores, 1 / 52 / 4).scatter_add(1, labels[:, None], torch.full((50, 1), 51 / 52))
        return -(targets * (scores / temperature).log_softmax(-1)).sum().item()

    assert all(loss(found) < loss(found * factor) for factor in (0.9, 0.99, 1.01, 1.1))


def test_images_that_are_all_right_do_not_make_a_temperature_of_zero() -> None:
    scores = 10 * torch.eye(3).repeat(4, 1)
    assert probabilities(scores, fit_temperature(scores, torch.arange(3).repeat(4))).amax() == pytest.approx(
        0.95, abs=0.03
    )


def test_a_threshold_is_passed_by_the_share_it_was_chosen_for() -> None:
    scores, labels = drawn(1.0, n=1000)
    found = fit_calibration(scores, labels)
    for by in ("probability", "energy"):
        below = certainty(scores, by, found.temperature) < found.threshold(0.05, by)  # type: ignore[arg-type]
        assert below.double().mean().item() == pytest.approx(0.05, abs=0.002)


def test_a_methods_own_certainty_has_thresholds_of_its_own() -> None:
    scores, labels = drawn(1.0, n=11)
    found = fit_calibration(scores, labels, torch.arange(11.0))
    assert found.threshold(0.5, "method") == pytest.approx(5)
    with pytest.raises(DataError, match="no certainty of its own"):
        fit_calibration(scores, labels).threshold(0.5, "method")


def test_images_are_rejected_by_the_methods_own_certainty(world: World, tmp_path: Path) -> None:
    run = world.fit(tmp_path / "run", "gallop", train={"epochs": 0})
    predictor = load(run.folder)
    images = sorted(world.pictures.rglob("*.png"))[:6]
    chosen = predictor.threshold(0.5, "method")
    assert 0 < chosen.value < 2
    for least, expected in ((0.0, 0), (2.0, 6)):
        answers = predictor.answers(images, reject=Threshold(least, "method"))
        assert sum(isinstance(answer, Prediction) and answer.rejected for answer in answers) == expected


def test_predictions_are_calibrated_for_the_classes_of_training_and_raw_ones_stay_available(
    world: World, tmp_path: Path
) -> None:
    run = world.fit(tmp_path / "run", "clip")
    predictor = load(run.folder)
    images = sorted(world.pictures.rglob("*.png"))[:6]
    transform = plain_transform(run.classifier.backbone.preprocess_config)
    scores = predictor.classifier.scores(torch.stack([transform(read_image(i)) for i in images]), CLASSES, Role.SEEN)
    assert predictor.calibration is not None
    temperature = json.loads((run.folder / "calibration.json").read_text())["temperature"]
    assert temperature != pytest.approx(1, abs=0.01)
    for raw, expected in ((True, scores.softmax(-1)), (False, (scores / temperature).softmax(-1))):
        assert torch.allclose(torch.tensor(predictor.predict_proba(images, raw=raw)), expected.double(), atol=1e-6)
    assert load(run.folder, CLASSES[:2]).calibration is None
    (run.folder / "calibration.json").write_text(json.dumps({"temperature": 2.0}))
    with pytest.raises(VlmadaptError, match=r"calibration.json' is damaged"):
        load(run.folder)
