"""No method can reach the test images: with all of them spoilt, every method is prepared, trained and finished."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import small
from tests.data.pictures import class_folder
from tests.parity import tiny_clip
from tests.small import FEWER_TEXTS
from tests.world import CLASSES, DESCRIPTIONS
from vlmadapt import FitSettings, fit, registry
from vlmadapt.core.build import method_class
from vlmadapt.data.splits import Splits
from vlmadapt.training import finish, start

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]


class Trained(Exception):
    """All is done but testing."""


@pytest.fixture(scope="module")
def deep_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deep enough for published options."""
    return tiny_clip.write(tmp_path_factory.mktemp("clip"), {**small.SETTINGS, "vision_layers": 12, "text_layers": 12})


KINDS = ("coop", "mmrl", "tip-adapter-f", "linear-probe", "lp++", "gda", "tda")
"""One of each kind of method; the others are slow tests."""


@pytest.mark.parametrize(
    "name", [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_training_needs_no_test_image(
    name: str, deep_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in CLASSES:
        class_folder(tmp_path / "pictures" / label, 6)
    described = tmp_path / "descriptions.json"
    described.write_text(json.dumps(DESCRIPTIONS))
    spoilt: list[Path] = []

    def spoil(*given: Any) -> tuple[Splits, Any]:
        splits, inputs = read(*given)
        for example in (example for group in splits.groups for example in group.examples):
            example.path.write_bytes(b"")
            spoilt.append(example.path)
        return splits, inputs

    def stop(*_: Any, **__: Any) -> None:
        raise Trained

    read = start._data
    monkeypatch.setattr(start, "_data", spoil)
    monkeypatch.setattr(finish, "predict_group", stop)
    published = method_class(name).recipe
    settings = FitSettings(
        name,
        FEWER_TEXTS.get(name, {}),
        descriptions=str(described),
        train={"epochs": 2 if published.epochs else 0, "steps_per_shot": 0, "batch_size": 4},
        data=str(tmp_path / "pictures"),
        backbone=str(deep_clip),
        protocol="few-shot",
        shots=2,
        workers=0,
        out=str(tmp_path / "run"),
    )
    with pytest.raises(Trained):
        fit(settings)
    assert spoilt
