"""Sentences for class names: templates, random words, hierarchies, and a language model's answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vlmadapt.data import describing
from vlmadapt.errors import DataError


def test_random_descriptors_are_those_of_the_seed() -> None:
    found = describing.random_descriptors(3, seed=1, words=2, letters=4)
    assert found == describing.random_descriptors(3, seed=1, words=2, letters=4)
    assert found != describing.random_descriptors(3, seed=2, words=2, letters=4)
    words, letters = found[0].split(" "), found[1].split(", ")
    assert (len(found), len(words), [len(group) for group in letters]) == (6, 2, [4, 4])
    assert all(len(word) <= 4 for word in words)


@pytest.mark.parametrize(
    ("descriptor", "expected"),
    [
        ("antlers", "red fox, which has antlers"),
        ("a bushy tail", "red fox, which is a bushy tail"),
        ("has fur", "red fox, which has fur"),
        ("often asleep", "red fox, which often asleep"),
    ],
)
def test_the_verb_fits_the_first_word(descriptor: str, expected: str) -> None:
    assert describing.with_descriptor("red_fox", descriptor) == expected


def test_a_class_is_of_the_type_of_each_group_above_it(tmp_path: Path) -> None:
    (tmp_path / "h.yaml").write_text("animal: [bird, {dog: [Golden Retriever]}]\n")
    found = describing.from_hierarchy(["golden_retriever"], tmp_path / "h.yaml")
    types = [text.split(", a type of ")[1] for text in found["golden_retriever"]]
    assert types == ["dog.", "animal."]
    with pytest.raises(DataError, match="no group for emu"):
        describing.from_hierarchy(["emu"], tmp_path / "h.yaml")


def test_answers_become_sentences_and_items_follow_the_name(tmp_path: Path) -> None:
    asked = describing.questions(["red_fox"], ["What is a {}?", "List it."])
    assert asked[0]["question"] == "What is a red fox?"
    asked[0]["answer"], asked[1]["answer"] = "A red fox. It is orange!", "Features:\n- a tail\n2. red fox ears."
    file = tmp_path / "answers.jsonl"
    file.write_text("\n".join(map(json.dumps, asked)))
    expected = ["A red fox.", "It is orange!", "red fox, which is a tail.", "red fox ears."]
    assert describing.from_answers(["red_fox"], file) == {"red_fox": expected}
    for names, message in ((["red_fox", "cat"], "no answer about cat"), (["cat"], "line 1 .*unknown class 'red_fox'")):
        with pytest.raises(DataError, match=message):
            describing.from_answers(names, file)


def test_the_same_sentence_counts_once() -> None:
    assert describing.joined([{"cat": ["a", "b"]}, {"cat": ["b", "c"]}]) == {"cat": ["a", "b", "c"]}
