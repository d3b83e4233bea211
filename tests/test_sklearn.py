"""The scikit-learn classifier: scikit-learn's own checks for estimators whose rows are no numbers, and common uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from tests.world import World
from vlmadapt.errors import DataError
from vlmadapt.sklearn import VLMClassifier

CHECKS = (
    "estimator_cloneable",
    "estimator_repr",
    "estimator_tags_renamed",
    "get_params_invariance",
    "mixin_order",
    "no_attributes_set_in_init",
    "parameters_default_constructible",
    "set_params",
    "valid_tag_types",
)
"""Those that give the estimator no numbers; all others train on rows of random floats, which are no images."""


@pytest.mark.parametrize("name", CHECKS)
def test_scikit_learns_checks(name: str) -> None:
    getattr(estimator_checks, f"check_{name}")("VLMClassifier", VLMClassifier("clip"))


@pytest.fixture(scope="module")
def data(world: World) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    paths = sorted(path for name in ("axolotl", "red_fox") for path in (world.pictures / name).iterdir())
    return np.array([str(path) for path in paths]), np.array([path.parent.name == "red_fox" for path in paths])


def test_labels_of_any_kind_have_names_for_prompts(world: World, data: Any) -> None:
    paths, labels = data
    model = VLMClassifier("clip", backbone=str(world.clip), names={True: "red_fox", False: "axolotl"})
    with pytest.raises(NotFittedError):
        model.predict(paths)
    model.fit(paths, labels)
    assert model.classes_.tolist() == [False, True]
    assert model.predictor_.classes == ("axolotl", "red_fox")
    found = model.predict_proba(paths)
    assert found.sum(axis=1) == pytest.approx(1)
    assert (model.predict(paths) == (found[:, 1] > found[:, 0])).all()
    assert model.score(paths, labels) == (model.predict(paths) == labels).mean()
    opened = [Image.open(path) for path in paths]
    assert (model.predict(opened) == model.predict(paths)).all()


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1], {0: "fox", 1: "fox "}, "two classes with the name 'fox'"),
        (["fox", " fox"], None, "two classes with the name 'fox'"),
        ([0.0, float("nan")], None, "empty name"),
    ],
)
def test_labels_that_become_one_class_or_none_are_refused(world: World, labels: Any, names: Any, message: str) -> None:
    images = [np.full((8, 8, 3), 90, np.uint8)] * 2
    with pytest.raises(DataError, match=message):
        VLMClassifier("clip", backbone=str(world.clip), names=names).fit(images, labels)


def test_cross_validated_grid_search_and_pipelines(world: World, data: Any) -> None:
    paths, labels = data
    model = VLMClassifier("clip", backbone=str(world.clip), names={True: "fox", False: "newt"})
    pipeline = make_pipeline(FunctionTransformer(list, validate=False), clone(model))
    search = GridSearchCV(pipeline, {"vlmclassifier__seed": [1, 2]}, cv=2).fit(paths, labels)
    assert search.best_estimator_.predict(paths[:3]).dtype == labels.dtype


def test_without_a_method_nothing_is_trained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="VLMClassifier has no method"):
        VLMClassifier().fit(["a.png"], ["x"])
