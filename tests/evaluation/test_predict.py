"""Predict images with a trained adapter, from Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.world import CLASSES, World
from vlmadapt import FitResult, VlmadaptError, load
from vlmadapt.data.images import read_image
from vlmadapt.data.transforms import test_transform as plain_transform
from vlmadapt.errors import AdapterError, DataError
from vlmadapt.evaluation import predictor as module
from vlmadapt.roles import Role


@pytest.fixture(scope="module")
def run(base_to_novel: FitResult) -> FitResult:
    return base_to_novel


@pytest.fixture(scope="module")
def images(world: World) -> list[Path]:
    return sorted(world.pictures.rglob("*.png"))[::5]


def test_a_reloaded_run_gives_the_scores_of_the_classifier_that_was_trained(run: FitResult, images: list[Path]) -> None:
    predictor = load(run.folder)
    transform = plain_transform(run.classifier.backbone.preprocess_config)
    batch = torch.stack([transform(read_image(image)) for image in images])
    expected = run.classifier.scores(batch, CLASSES, Role.UNKNOWN)
    assert torch.equal(predictor.classifier.scores(batch, CLASSES, Role.UNKNOWN), expected)
    for best, scores in zip(predictor.predict(images, top=4), expected.softmax(-1), strict=True):
        assert dict(best) == pytest.approx(dict(zip(CLASSES, scores.tolist(), strict=True)))


def test_the_best_come_first_and_all_add_up_to_one(run: FitResult, images: list[Path]) -> None:
    for best in load(run.folder).predict(images, top=100):
        probabilities = [p for _, p in best]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1)
        assert {name for name, _ in best} == set(CLASSES)


def test_only_the_best_are_named(run: FitResult, images: list[Path]) -> None:
    assert [len(best) for best in load(run.folder).predict(images, top=2)] == [2] * len(images)


def test_any_classes_can_be_scored(run: FitResult, images: list[Path]) -> None:
    predictor = load(run.folder, ["moth", "bus"])
    assert predictor.role is Role.UNSEEN
    assert {name for name, _ in next(predictor.predict(images))} == {"moth", "bus"}


def test_the_router_knows_whether_the_classes_were_trained_on(run: FitResult) -> None:
    assert load(run.folder).role is Role.UNKNOWN
    assert load(run.folder, CLASSES[:2]).role is Role.SEEN
    assert load(run.folder, CLASSES[2:]).role is Role.UNSEEN


def test_the_size_of_a_batch_does_not_matter(
    run: FitResult, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(load(run.folder).predict(images))
    monkeypatch.setattr(module, "BATCH", 3)
    for a, b in zip(load(run.folder).predict(images), whole, strict=True):
        assert [name for name, _ in a] == [name for name, _ in b]
        assert [p for _, p in a] == pytest.approx([p for _, p in b], rel=1e-4)


def test_the_next_batch_is_decoded_while_one_is_classified(
    run: FitResult, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    asked: list[Path] = []

    def given() -> Iterator[Path]:
        for image in images[:7]:
            asked.append(image)
            yield image

    answers = load(run.folder).predict(given())
    next(answers)
    assert asked == images[:4]
    assert len(list(answers)) == 6


@pytest.mark.parametrize(("light", "used"), [(10**8, 1), (0, 2)])
def test_a_small_tower_computes_on_one_core_while_others_decode(
    run: FitResult, images: list[Path], monkeypatch: pytest.MonkeyPatch, light: int, used: int
) -> None:
    monkeypatch.setattr(module, "LIGHT", light)
    before, during = torch.get_num_threads(), []
    predictor = load(run.folder)
    answer = predictor.classifier.scores_and_certainty

    def watched(*given: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        during.append(torch.get_num_threads())
        return answer(*given)

    monkeypatch.setattr(predictor.classifier, "scores_and_certainty", watched)
    torch.set_num_threads(2)
    try:
        for _ in predictor.predict(images[:3]):
            assert torch.get_num_threads() == 2, "the caller's own work is not slowed down"
    finally:
        torch.set_num_threads(before)
    assert during == [used]


def test_images_in_memory_are_predicted_like_files(run: FitResult, images: list[Path]) -> None:
    predictor = load(run.folder)
    assert list(predictor.predict([Image.open(images[0])])) == list(predictor.predict([str(images[0])]))


def test_one_image_gives_one_answer_and_many_give_many(run: FitResult, images: list[Path]) -> None:
    predictor = load(run.folder)
    expected = list(predictor.predict(images[:3]))
    opened = [Image.open(image) for image in images[:3]]
    arrays = [np.asarray(image.convert("RGB")) for image in opened]
    tensors = [torch.tensor(array).movedim(-1, 0) for array in arrays]
    for given in (
        opened,
        arrays,
        tensors,
        iter(arrays),
        np.stack(arrays),
        torch.stack(tensors),
        np.array(images[:3], str),
    ):
        assert list(predictor.predict(given)) == expected
    for image in (images[0], str(images[0]), opened[0], arrays[0], tensors[0]):
        assert predictor.predict(image) == next(predictor.predict([images[0]]))
    lazy = Image.open(images[0])  # decoded in several threads, but read once
    assert {best[0][0] for best in predictor.predict([lazy] * 20)} == {expected[0][0][0]}


def test_probabilities_are_in_the_order_of_the_classes(run: FitResult, images: list[Path]) -> None:
    predictor = load(run.folder)
    found = predictor.predict_proba(images)
    assert found.shape == (len(images), 4)
    assert predictor.classes_.tolist() == list(CLASSES)
    for row, best in zip(found, predictor.predict(images), strict=True):
        assert dict(zip(predictor.classes_, row, strict=True)) == pytest.approx(dict(best))
    assert predictor.predict_proba([]).shape == (0, 4)


def test_features_of_images_and_texts_give_the_scores(world: World, tmp_path: Path, images: list[Path]) -> None:
    """Where scores are cosines: in CoOp times the scale."""
    predictor = world.fit(tmp_path / "run", "coop").predictor
    a, b = predictor.embed_images(images), predictor.embed_texts()
    assert np.linalg.norm(a, axis=1) == pytest.approx(1, abs=1e-5)
    scale = predictor.classifier.backbone.scale.item()
    logits = torch.tensor(scale * a @ b.T)
    assert torch.allclose(
        logits.softmax(-1).double(), torch.tensor(predictor.predict_proba(images, raw=True)), atol=1e-5
    )
    assert np.allclose(predictor.embed_texts(CLASSES[1]), b[1:2], atol=1e-6)


def test_a_method_whose_prompts_depend_on_the_image_has_no_features_of_names(world: World, tmp_path: Path) -> None:
    predictor = world.fit(tmp_path / "run", "cocoop", options={"tokens": 2}, train={"epochs": 1}).predictor
    with pytest.raises(DataError, match="no features of class names alone: they depend on the image"):
        predictor.embed_texts()


def test_an_adapter_alone_is_loaded_for_given_classes(world: World, run: FitResult, images: list[Path]) -> None:
    alone = load(run.folder / "adapter", ["moth", "bus"], backbone=str(world.clip))
    assert list(alone.predict(images)) == list(load(run.folder, ["moth", "bus"]).predict(images))


def test_an_adapter_alone_knows_no_classes(world: World, run: FitResult) -> None:
    with pytest.raises(DataError, match="is an adapter without a run; say which classes"):
        load(run.folder / "adapter", backbone=str(world.clip))


def test_an_adapter_alone_does_not_choose_which_folder_is_loaded(run: FitResult) -> None:
    """It may be a stranger's: only the user names folders and models of the Hub."""
    with pytest.raises(AdapterError, match="name it yourself with --backbone"):
        load(run.folder / "adapter", ["moth", "bus"])


def test_no_classes_are_no_question(run: FitResult) -> None:
    with pytest.raises(DataError, match="no classes to choose from"):
        load(run.folder, [])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("moth,bus", "are one text; give a list of names"),
        (["moth", "bus", "moth"], "class 'moth' is named twice"),
    ],
)
def test_what_is_no_list_of_different_names_is_refused(run: FitResult, classes: Any, message: str) -> None:
    """The letters of a text would be classes, and two equal names would share one probability."""
    with pytest.raises(DataError, match=message):
        load(run.folder, classes)


@pytest.mark.parametrize("name", ["", "  ", "_"])
def test_an_empty_class_name_is_refused(run: FitResult, images: list[Path], name: str) -> None:
    with pytest.raises(DataError, match="class 1 has an empty name"):
        list(load(run.folder, ["moth", name]).predict(images))


def test_an_image_that_cannot_be_read_is_named(run: FitResult, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"broken.png' cannot be read"):
        list(load(run.folder).predict([tmp_path / "broken.png"]))
    with pytest.raises(DataError, match=r"missing.png' does not exist"):
        list(load(run.folder).predict([tmp_path / "missing.png"]))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="holds no adapter"):
        load(tmp_path, ["a", "b"])
    with pytest.raises(VlmadaptError, match="does not exist"):
        load(tmp_path / "missing")
