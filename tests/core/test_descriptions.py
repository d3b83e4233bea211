"""Descriptions: found by class name, averaged by class, one drawn for each class."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.descriptions import ClassDescriptions, Descriptions
from vlmadapt.errors import DataError


def test_classes_are_found_whatever_their_case_and_underscores() -> None:
    found = ClassDescriptions({"red fox": ["a", "b"], "Cat": ["c"]}).of(["cat", "red_fox"])
    assert (found.sentences, found.counts) == (("c", "a", "b"), (1, 2))


def test_an_exact_name_comes_first() -> None:
    assert ClassDescriptions({"crane": ["a bird"], "Crane": ["a machine"]}).of(["crane"]).sentences == ("a bird",)


def test_classes_without_descriptions_are_named() -> None:
    with pytest.raises(DataError, match=r"1 of 2 classes \(emu\).*--descriptions"):
        ClassDescriptions({"cat": ["a cat."]}).of(["cat", "emu"])


@pytest.mark.parametrize("counts", [(2, 2, 2), (3, 1, 2)])
def test_means_are_those_of_each_class(counts: tuple[int, ...]) -> None:
    texts = Descriptions(tuple("abcdef"), counts)
    features = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    expected = torch.stack([part.mean(0) for part in features.split(counts)])
    torch.testing.assert_close(texts.mean(features), expected)
    ours, theirs = (torch.autograd.grad(f.square().sum(), features)[0] for f in (texts.mean(features), expected))
    torch.testing.assert_close(ours, theirs)


def test_every_sentence_is_drawn_and_only_those_of_the_class() -> None:
    texts = Descriptions(tuple("abcdef"), (3, 1, 2))
    torch.manual_seed(0)
    drawn = torch.stack([texts.draw(torch.device("cpu")) for _ in range(200)])
    assert [set(column.tolist()) for column in drawn.T] == [{0, 1, 2}, {3}, {4, 5}]
    torch.manual_seed(0)
    assert torch.equal(texts.draw(torch.device("cpu")), drawn[0])


def test_a_number_is_counted_round_in_each_class() -> None:
    assert Descriptions(tuple("abcdef"), (3, 1, 2)).number(torch.tensor(2)).tolist() == [2, 3, 4]


def test_sentences_after_a_template_are_written_once() -> None:
    texts = Descriptions.of([["red."], ["big.", "wet."]])
    found = texts.after("a {}, ", ["red_fox", "sea"])
    assert found.sentences == ("a red fox, red.", "a sea, big.", "a sea, wet.")
    assert found.counts == (1, 2)
    assert texts.after("a {}, ", ("red_fox", "sea")) is found
    assert texts.after("the {}, ", ("red_fox", "sea")) is not found
