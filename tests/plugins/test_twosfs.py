"""2SFS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import small
from tests.plugins.prompt_methods import StillTrainer, backbone, build, disturb, forward, published_count
from tests.world import World
from vlmadapt import load
from vlmadapt.core.build import build_method
from vlmadapt.core.method import Task
from vlmadapt.core.plan import derive
from vlmadapt.core.templates import Template
from vlmadapt.plugin import SEEN, UNKNOWN, UNSEEN, DataError, ForwardPass, Method, Support, total

NORMS_OF_VIT_B_16 = 12 * 2 * 2 * (512 + 768)


class AnySupport:
    """One batch, which is all that the second stage asks for."""

    def __init__(self, fwd: ForwardPass):
        self.fwd = fwd

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        yield iter((self.fwd,))


@torch.no_grad()
def second_stage(method: Method, names: Sequence[str] = small.NAMES) -> Any:
    """The method with disturbed norms, at the start of the second stage."""
    disturb(*(p for name, p in method.named_parameters() if name != "classifier"))
    method.cycle_start(1, cast(Support, AnySupport(forward(method, names))))
    return method


def test_published_number_of_parameters() -> None:
    assert published_count("2sfs") == NORMS_OF_VIT_B_16 + len(small.NAMES) * 512


def test_it_starts_as_zero_shot_clip() -> None:
    fwd = forward(build("2sfs"))
    torch.testing.assert_close(fwd.logits(), fwd.zero_shot.logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "text", "image"),
    [
        ({}, {"0", "1", "2"}, {"0", "1", "2"}),
        ({"towers": "text"}, {"0", "1", "2"}, set()),
        ({"towers": "image", "image_start": 3}, set(), {"2"}),
        ({"text_start": 2, "image_start": 3}, {"1", "2"}, {"2"}),
    ],
)
def test_norms_of_the_chosen_towers_and_blocks_are_trained(
    options: dict[str, Any], text: set[str], image: set[str]
) -> None:
    method = build("2sfs", **options)
    assert (set(method.text), set(method.image)) == (text, image)


@pytest.mark.parametrize("start", [0, 4])
def test_a_first_block_that_does_not_exist_is_refused(start: int) -> None:
    with pytest.raises(DataError, match=f"is {start}; it has to be from 1 to 3"):
        build("2sfs", text_start=start)


def gradients(method: Any) -> dict[str, Tensor | None]:
    trainer = StillTrainer(method)
    method.training_step(forward(method), trainer)
    return dict(zip((name for name, _ in method.named_parameters()), trainer.applied, strict=True))


def test_each_stage_trains_its_own_tensors() -> None:
    method = build("2sfs")
    first = gradients(method)
    second = gradients(second_stage(method))
    assert first.pop("classifier") is None
    assert all(gradient is not None and gradient.any() for gradient in first.values())
    classifier = second.pop("classifier")
    assert classifier is not None
    assert classifier.any()
    assert not any(gradient is not None for gradient in second.values())


def test_the_classifier_starts_with_the_tuned_text_features() -> None:
    method = build("2sfs")
    before = forward(method).text()
    second_stage(method)
    torch.testing.assert_close(method.classifier, forward(method).text())
    assert not torch.allclose(method.classifier, before, atol=1e-2)


def test_rows_follow_the_names_the_method_was_built_for() -> None:
    method, moved = second_stage(build("2sfs")), tuple(reversed(small.NAMES))
    torch.manual_seed(0)
    again = second_stage(build("2sfs"), moved)
    assert again.row_classes == method.row_classes
    torch.testing.assert_close(again.classifier, forward(again).text())


@torch.no_grad()
def test_trained_classes_have_rows_and_others_texts() -> None:
    method = second_stage(build("2sfs"))
    disturb(method.classifier)
    names = ("saint_bernard", small.NAMES[3], "bird of paradise", small.NAMES[0], "saint_bernard")
    fwd = forward(method, names)
    texts, rows = fwd.text(), F.normalize(method.classifier, dim=-1)
    expected = torch.stack([texts[0], rows[3], texts[2], rows[0], texts[0]])
    torch.testing.assert_close(method.class_features(fwd), expected)
    for role in (SEEN, UNSEEN, UNKNOWN):
        torch.testing.assert_close(method.route(fwd, role), fwd.scale * fwd.image() @ expected.T, atol=1e-4, rtol=1e-5)


@torch.no_grad()
def test_two_classes_with_one_name_have_a_row_each() -> None:
    names = ("crane", "dog", "crane")
    method = build_method("2sfs", backbone(), Task(names, ("a photo of a {}.",)))
    second_stage(method, names)
    disturb(method.classifier)
    rows = F.normalize(method.classifier, dim=-1)
    torch.testing.assert_close(method.class_features(forward(method, names)), rows)
    moved = forward(method, ("crane", "crane", "owl", "dog"))
    expected = torch.stack([rows[0], rows[2], moved.text()[2], rows[1]])
    torch.testing.assert_close(method.class_features(moved), expected)


def test_a_name_is_compared_as_it_is_given() -> None:
    method = second_stage(build("2sfs"))
    disturb(method.classifier)
    other = forward(method, ("american pit bull terrier",))
    torch.testing.assert_close(method.class_features(other), other.text())


def test_trained_rows_need_no_text_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    method = second_stage(build("2sfs"))
    fwd = forward(method)
    monkeypatch.setattr(fwd, "_text_features", lambda: pytest.fail("texts were encoded"))
    total(method.losses(fwd)).backward()


def test_the_length_of_a_row_does_not_matter() -> None:
    method = second_stage(build("2sfs"))
    before = method.route(forward(method), SEEN)
    method.classifier.data *= 3
    torch.testing.assert_close(method.route(forward(method), SEEN), before)


@torch.no_grad()
def test_a_state_brings_its_classes_along() -> None:
    """As a saved adapter is loaded: for no classes, or for others."""
    trained = second_stage(build("2sfs"))
    disturb(trained.classifier)
    names = (small.NAMES[2], "bird of paradise")
    for classes in ((), ("one", "two")):
        loaded = build_method("2sfs", backbone(), Task(classes, ("a photo of a {}.",)))
        loaded.load_state_dict(trained.state_dict())
        expected = trained.route(forward(trained, names), UNKNOWN)
        torch.testing.assert_close(loaded.route(forward(loaded, names), UNKNOWN), expected)


def test_a_first_cycle_starts_over_without_rows() -> None:
    method = second_stage(build("2sfs"))
    method.cycle_start(0, cast(Support, AnySupport(forward(method))))
    fwd = forward(method)
    assert method.route(fwd, SEEN) is fwd.logits()


def test_the_template_is_its_own_or_the_data_sets() -> None:
    templates = [Template.parse("a sketch of {}.")]
    chosen: tuple[dict[str, Any], ...] = ({}, {"template": ""})
    found = [derive(build("2sfs", **options).hooks(), backbone(), templates) for options in chosen]
    assert [plan.prompts[0].text for plan in found] == ["a photo of a {}.", "a sketch of {}."]


def test_a_saved_run_knows_its_classes(world: World, tmp_path: Path) -> None:
    trained: Any = world.fit(tmp_path / "run", "2sfs", protocol="base-to-novel").classifier.method
    loaded: Any = load(tmp_path / "run").classifier.method
    assert loaded.has_rows
    assert loaded.row_classes == trained.row_classes == tuple(trained.trained_classes)
    assert torch.equal(loaded.classifier, trained.classifier)
