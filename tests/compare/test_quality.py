from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.compare import fake
from vlmadapt.compare.compare import make_results
from vlmadapt.compare.quality import auroc, brier_score, calibration_error, qualities, selective_accuracy


def test_calibration_error_by_hand() -> None:
    # bins of a fifteenth: 0.62 and 0.65 share (0.6, 0.667], 0.95 is alone
    confidence, correct = np.array([0.62, 0.65, 0.95]), np.array([1.0, 0.0, 1.0])
    assert calibration_error(confidence, correct) == pytest.approx((abs(1 - 1.27) + 0.05) / 3)
    assert calibration_error(np.array([1.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0])) == 0


def test_scores_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    confidence = rng.random(300).round(2)  # with ties
    correct = (rng.random(300) < confidence).astype(float)
    assert brier_score(confidence, correct) == pytest.approx(metrics.brier_score_loss(correct, confidence))
    found = auroc(confidence[correct == 1], confidence[correct == 0])
    assert found == pytest.approx(metrics.roc_auc_score(correct, confidence))


def test_selective_accuracy_by_hand() -> None:
    confidence, correct = np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    assert selective_accuracy(confidence, correct) == 0.75
    assert selective_accuracy(np.full(5, 0.5), correct) == pytest.approx(0.6)  # ties are shared


def test_qualities_of_a_comparison(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("clip", "mmrl"), seeds=(1, 2))
    for entry in made.of("mmrl", "alpha", 16):  # always right, and sure of it on seen classes alone
        path = entry.folder / "answers.json"
        test = json.loads((entry.folder / "data.json").read_text())["test"]
        answers = [
            {"name": group["name"], "chosen": [label for _, label in group["examples"]], "confidence": [p] * 40}
            for group, p in zip(test, (1.0, 0.6), strict=True)
        ]
        path.write_text(json.dumps(answers))
    clip, mmrl = qualities(made)
    assert {key: value.mean for key, value in mmrl.values.items()} == pytest.approx({
        ("ECE", "seen"): 0, ("ECE", "unseen"): 40, ("Brier", "seen"): 0, ("Brier", "unseen"): 16,
        ("selective", "seen"): 100, ("selective", "unseen"): 100, ("AUROC", ""): 100,
    })  # fmt: skip
    name, accuracy = clip.worst["unseen"]
    path = [entry.folder for entry in made.of("clip", "alpha", 16)]
    right = [
        answer["chosen"][i] == i % 2
        for answer in (json.loads((folder / "answers.json").read_text())[1] for folder in path)
        for i in range(fake.CLASSES[2:].index(name), 40, 2)
    ]
    assert accuracy == pytest.approx(100 * np.mean(right))
    (table,) = make_results(made).quality_tables
    assert table.columns[:3] == ("method", "ECE, seen", "ECE, unseen") and table.best[1] == {1}


def test_known_and_unknown_classes_of_one_group_are_told_apart_by_name(tmp_path: Path) -> None:
    made = fake.comparison(tmp_path, ("mmrl",), seeds=(1,))
    folder = made.entries[0].folder
    data = json.loads((folder / "data.json").read_text())
    examples = [[f"{i}.png", i % 4] for i in range(40)]
    data["test"] = [{"name": "all", "role": "unknown", "classes": list(fake.CLASSES), "examples": examples}]
    (folder / "data.json").write_text(json.dumps(data))
    confidence = [0.9 if i % 4 < 2 else 0.3 for i in range(40)]
    answers = [{"name": "all", "chosen": [0] * 40, "confidence": confidence}]
    (folder / "answers.json").write_text(json.dumps(answers))
    (found,) = qualities(made)
    assert found.values["AUROC", ""].mean == 100 and ("ECE", "unknown") in found.values
