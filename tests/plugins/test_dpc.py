from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vlmadapt.core.method import enter_cycle
from vlmadapt.core.recipe import Cycle
from vlmadapt.errors import DataError
from vlmadapt.plugin import SEEN, UNSEEN, Recipe, method_class
from vlmadapt.testing import MethodUnderTest
from vlmadapt_wrappers.dpc import DPC, contrastive_loss, hard_negatives


def test_hard_negatives_are_the_best_classes_of_any_image_without_the_labels_of_the_batch() -> None:
    scores = torch.tensor([[9.0, 8.0, 7.0, 6.0, 0.0, 1.0, 2.0, 3.0], [0.0, 8.0, 9.0, 1.0, 7.0, 6.0, 2.0, 3.0]])
    found = hard_negatives(scores, torch.tensor([0, 1]), topk=4)
    assert sorted(found.classes[found.counted].tolist()) == [2, 3, 4, 5]
    assert len(set(found.classes.tolist())) == len(found.classes) == 7


def test_an_image_that_adds_too_few_negatives_gets_random_ones() -> None:
    scores = torch.arange(20.0).expand(3, 20)  # class 19 is the best of every image: the first one adds 18 and 17
    drawn = set()
    for seed in range(20):
        torch.manual_seed(seed)
        found = hard_negatives(scores, torch.tensor([19, 0, 0]), topk=3)
        classes = found.classes[found.counted].tolist()
        assert len(classes) == len(set(classes)) == 2 + 2 + 2
        assert {17, 18} <= set(classes) and not {0, 19} & set(classes)
        drawn |= set(classes)
    assert drawn == set(range(1, 19))


@pytest.mark.parametrize(("classes", "counted"), [(3, 1), (2, 0), (1, 0)])
def test_few_classes_leave_fewer_negatives(classes: int, counted: int) -> None:
    labels = torch.arange(classes)[:2]
    found = hard_negatives(torch.randn(len(labels), classes), labels, topk=8)
    assert len(found.classes) == max(1, classes - 1) and int(found.counted.sum()) == counted


def test_pairs_that_do_not_count_change_nothing() -> None:
    torch.manual_seed(0)
    image, text = torch.randn(2, 6, 5, requires_grad=True)
    counted = torch.tensor([True, True, False, True, False, True])
    kept = (image[counted] @ text[counted].T).double()
    own = torch.arange(4)
    alone = (F.cross_entropy(kept, own) + F.cross_entropy(kept.T, own)) / 2
    loss = contrastive_loss(image @ text.T, counted)
    torch.testing.assert_close(loss.double(), alone)
    gradients = [torch.autograd.grad(value, (image, text), retain_graph=True) for value in (loss, alone)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("wraps", ["coop", pytest.param("promptsrc", marks=pytest.mark.slow)])
def test_after_its_first_stage_it_is_the_method_inside(wraps: str) -> None:
    alone, tested = MethodUnderTest(wraps), MethodUnderTest("dpc", {"wraps": wraps})
    expected = alone.scores(alone.fit())
    trained = tested.fit(cycles=1)
    for role in (SEEN, UNSEEN):
        torch.testing.assert_close(tested.scores(trained, role=role), expected)


def test_new_classes_are_scored_with_the_tuned_prompts_and_the_others_with_the_parallel_ones() -> None:
    tested = MethodUnderTest("dpc", {"unseen": 0.25})
    trained = tested.fit()
    method = trained.method
    assert isinstance(method, DPC)
    tuned, parallel = method.inner.context.detach(), method.parallel.context.detach()
    assert not torch.equal(tuned, parallel)
    coop = MethodUnderTest("coop")
    for role, context in ((SEEN, parallel), (UNSEEN, 0.75 * tuned + 0.25 * parallel)):
        alone = coop.build()
        alone.load_state_dict({"context": context})
        torch.testing.assert_close(tested.scores(trained, role=role), coop.scores(coop.classifier(alone)))


def test_texts_are_kept_for_each_role_while_the_method_does_not_change() -> None:
    tested = MethodUnderTest("dpc", {"seen": 0.5, "unseen": 0.25})
    trained = tested.fit()
    fresh = {role: tested.scores(tested.classifier(trained.method), role=role) for role in (SEEN, UNSEEN)}
    with trained.unchanged():
        for role in (SEEN, UNSEEN, SEEN):
            assert torch.equal(tested.scores(trained, role=role), fresh[role])


def test_its_recipe_is_that_of_the_method_inside_and_twenty_epochs_more() -> None:
    tested = MethodUnderTest("dpc", {"wraps": "promptsrc"})
    recipe = method_class("promptsrc").recipe
    added = tested.cls.recipe_for(tested.config)
    assert (added.epochs, added.cycle_at(19), added.cycle_at(20)) == (40, Cycle(0, 0, 20), Cycle(1, 20, 20))
    assert Recipe(**{**vars(added), "epochs": recipe.epochs, "cycles": 1}) == recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wraps": "plot"}, "'plot' does otherwise"),
        ({"wraps": "mma"}, "of 'mma': only injected tokens can be mixed"),
        ({"topk": 0}, "topk is 0"),
        ({"weight": 0.0}, r"weight is 0\.0"),
        ({"unseen": 1.5}, r"unseen is 1\.5"),
    ],
)
def test_methods_and_options_that_it_has_no_meaning_for_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        MethodUnderTest("dpc", options).build()


def test_text_features_that_differ_by_image_are_refused_before_training() -> None:
    tested = MethodUnderTest("dpc", {"wraps": "cocoop"})
    with pytest.raises(DataError, match="'cocoop' has more"):
        tested.scores(tested.classifier(tested.build()), images=1)  # as before training


def test_a_training_of_several_stages_is_refused() -> None:
    with pytest.raises(DataError, match="'2sfs' is trained otherwise"):
        _ = MethodUnderTest("dpc", {"wraps": "2sfs"}).recipe


def test_a_method_around_it_has_its_second_stage_and_its_mixtures() -> None:
    tested = MethodUnderTest("wise-ft", {"wraps": "dpc", "alpha": 0.5})
    trained = tested.fit()
    inside = trained.method.inner
    assert isinstance(inside, DPC) and not torch.equal(inside.inner.context, inside.parallel.context)
    assert trained.method.whole_batch and trained.method.draws_images
    before = tested.scores(trained)
    with torch.no_grad():
        inside.parallel.context.mul_(2.0)
    assert not torch.allclose(tested.scores(trained), before)


def test_the_tuned_prompts_stay_as_they_are_in_the_second_stage() -> None:
    tested = MethodUnderTest("dpc")
    method = tested.build()
    enter_cycle(method, Cycle(1, 1, 1))
    classifier, shots = tested.classifier(method.train()), tested.shots()
    terms = list(method.losses(classifier.forward(shots.images[:4], shots.names, shots.labels[:4])))
    found = torch.autograd.grad(terms[0].value, list(method.parameters()), allow_unused=True)
    assert {n for (n, _), g in zip(method.named_parameters(), found, strict=True) if g is not None} == {
        "parallel.context"
    }
    assert terms[0].weight == 2.0
