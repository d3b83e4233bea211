from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from tests.plugins.prompt_methods import backbone, build, published_count
from vlmadapt_prompts.context import Position

NAME = "red panda"


def row(**options: Any) -> tuple[list[int], list[int]]:
    """Tokens after the start of text, and the positions of the context."""
    template = build("coop", **options).template
    written = template.write([NAME], backbone().text)
    return written.ids[0, 1 : int(written.end)].tolist(), written.context[0].tolist()


def tokens(words: str) -> list[int]:
    text = backbone().text
    ids = text.tokenize([words])
    return ids[0, 1 : int(text.end(ids))].tolist()


def test_published_parameter_count() -> None:
    assert published_count("coop") == 8_192
    assert published_count("coop", words="a photo of a") == 2_048


@pytest.mark.parametrize(
    ("position", "written", "places"),
    [
        ("end", "X X X red panda.", [1, 2, 3]),
        ("middle", "X red panda X X.", [1, 4, 5]),
        ("front", "red panda X X X.", [3, 4, 5]),
    ],
)
def test_where_the_class_name_stands(position: Position, written: str, places: list[int]) -> None:
    assert row(tokens=3, position=position) == (tokens(written), places)


@pytest.mark.parametrize("position", get_args(Position))
def test_one_vector_has_no_middle(position: Position) -> None:
    """Half of one vector is none, so the name comes before it."""
    assert row(tokens=1, position=position)[1] == ([1] if position == "end" else [3])


def test_words_left_over_count_as_the_name() -> None:
    """A comma is a token but no word: the last word stays frozen and moves where the name should."""
    ids, places = row(words="a pet, a photo", position="front")
    assert (ids, places) == (tokens("photo red X X X X panda."), [3, 4, 5, 6])


def test_a_context_per_class_does_not_answer_for_others() -> None:
    assert build("coop").answers_unseen
    method = build("coop", per_class=True)
    assert not method.answers_unseen
    assert method.context.shape[0] > 1
    assert build("coop", per_class=True, words="a photo of a").context.ndim == 2


def test_words_are_the_start() -> None:
    method = build("coop", words="a photo of a")
    torch.testing.assert_close(method.context.data, backbone().text.words("a photo of a"))
