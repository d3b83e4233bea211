"""Token ids and the places of learned vectors, for templates of every form."""

from __future__ import annotations

import pytest

from tests.core.words import END, PAD, START, Words
from vlmadapt.core.templates import Template
from vlmadapt.errors import DataError
from vlmadapt.text import readable


def test_a_class_name_is_written_in_the_place_of_the_braces() -> None:
    text = Words(context=8)
    written = Template.parse("a {}.").write(["red_fox", "cat"], text)
    a, red, fox, stop, cat = (text.id(word) for word in ("a", "red", "fox", ".", "cat"))
    assert written.ids.tolist() == [
        [START, a, red, fox, stop, END, PAD, PAD],
        [START, a, cat, stop, END, PAD, PAD, PAD],
    ]
    assert written.end.tolist() == [5, 4]
    assert written.context.shape == (2, 0)


@pytest.mark.parametrize(
    ("template", "places"),
    [
        ("[3] {}.", [[1, 2, 3], [1, 2, 3]]),
        ("{} [3].", [[3, 4, 5], [2, 3, 4]]),
        ("[2] {} [3].", [[1, 2, 5, 6, 7], [1, 2, 4, 5, 6]]),
        ("a [1] of {} [1]", [[2, 6], [2, 5]]),
        ("[1] [2] {}", [[1, 2, 3], [1, 2, 3]]),
        ("[2].", [[1, 2], [1, 2]]),
    ],
)
def test_learned_vectors_are_at_the_positions_of_their_placeholders(template: str, places: list[list[int]]) -> None:
    parsed = Template.parse(template)
    written = parsed.write(["red_fox", "cat"], Words())
    assert written.context.tolist() == places
    assert parsed.learned == len(places[0])


def test_a_template_without_a_name_is_the_same_for_every_class() -> None:
    written = Template.parse("[2].").write(["red_fox", ""], Words())
    assert written.ids[0].tolist() == written.ids[1].tolist()


def test_underscores_become_spaces_unless_they_are_wanted() -> None:
    assert readable("american__pit_bull ") == "american pit bull"
    assert Template.parse("{}").pieces("a_b")[-1] == ("a_b", 0)
    text = Words()
    kept = Template.parse("{}", keep_underscores=True).write(["red_fox"], text)
    assert kept.ids[0, 1] == text.id("red_fox")
    assert kept.end.tolist() == [2]


def test_equal_templates_are_one_key() -> None:
    assert len({Template.parse("a {}."), Template.parse("a {}."), Template.parse("a {}.", keep_underscores=True)}) == 2


def test_there_is_one_class_name_to_write() -> None:
    with pytest.raises(DataError, match=r"the template '\{\} or \{\}' has several"):
        Template.parse("{} or {}")


def test_no_classes_are_refused() -> None:
    with pytest.raises(DataError, match="there are no classes"):
        Template.parse("a {}.").write([], Words())


@pytest.mark.parametrize("name", ["", " ", "_", "__ _"])
def test_a_name_that_cannot_be_read_is_refused_with_its_number(name: str) -> None:
    with pytest.raises(DataError, match="class 1 has an empty name"):
        Template.parse("a {}.").write(["cat", name], Words())


def test_a_text_that_just_fits_is_written_and_a_longer_one_refused() -> None:
    text = Words(context=6)  # start, a, two words, full stop, end
    assert Template.parse("a {}.").write(["red fox", "cat"], text).end.tolist() == [5, 4]
    with pytest.raises(DataError, match="class 'big red fox' has 7 tokens, more than the 6"):
        Template.parse("a {}.").write(["cat", "big red fox"], text)


def test_a_tokenizer_that_cuts_the_placeholder_is_refused() -> None:
    with pytest.raises(DataError, match="choose a backbone whose tokenizer writes 'X' as one token"):
        Template.parse("[2] {}.").write(["cat"], Words(unknown=2))


@pytest.mark.parametrize("template", ["[2]{}.", "{}[2].", "a[2] {}.", "[1][2] {}.", "[2]s {}."])
def test_a_placeholder_that_is_part_of_a_word_is_refused(template: str) -> None:
    """Written as `XX cat`, the last learned vector would take the place of another token."""
    with pytest.raises(DataError, match="write a space on both sides"):
        Template.parse(template).write(["cat"], Words())


def test_the_old_name_of_an_argument_still_works_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"parse\(raw=...\) is deprecated; write parse\(keep_underscores=...\)"):
        assert Template.parse("{}", raw=True).keep_underscores  # type: ignore[call-arg]
