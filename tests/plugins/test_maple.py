"""MaPLe."""

from __future__ import annotations

import pytest
import torch

from tests import small
from tests.parity import tiny_clip
from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.hooks import Injection
from vlmadapt.core.loading import untrained
from vlmadapt.core.method import trainable_count
from vlmadapt.plugin import IMAGE, TEXT, DataError, Method, Task

TEMPLATES = ("a photo of a {}.",)
TASK = Task(small.NAMES, TEMPLATES)


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    """Two text blocks, three image blocks."""
    return tiny_clip.load(tmp_path_factory.mktemp("clip") / "uneven", {**small.SETTINGS, "text_layers": 2})


def layers(method: Method) -> dict[str, list[int]]:
    return {hook.tower: list(hook.layers) for hook in method.hooks() if isinstance(hook, Injection)}


@pytest.mark.parametrize(("depth", "count"), [(9, 3_555_072), (3, 1_185_024)])
def test_published_count(depth: int, count: int) -> None:
    assert trainable_count(build_method("maple", untrained("ViT-B-16"), TASK, {"depth": depth})) == count


@pytest.mark.parametrize(("depth", "text", "image"), [(1, [-1], [-1]), (2, [-1, 1], [-1, 1]), (3, [-1, 1], [-1, 1, 2])])
def test_each_tower_takes_as_many_contexts_as_it_has_blocks(
    uneven: Backbone, depth: int, text: list[int], image: list[int]
) -> None:
    assert layers(build_method("maple", uneven, TASK, {"depth": depth})) == {TEXT: text, IMAGE: image}


def test_a_context_beyond_the_text_tower_still_reaches_the_image(uneven: Backbone) -> None:
    method = build_method("maple", uneven, TASK, {"depth": 3})
    x = Classifier(uneven, method, TEMPLATES).forward(tiny_clip.inputs(1, 2, 16), small.NAMES)
    last = method.get_parameter("deep.1")
    assert torch.autograd.grad(x.image().sum(), last, retain_graph=True)[0].abs().max() > 0
    assert torch.autograd.grad(x.text().sum(), last, allow_unused=True) == (None,)


@pytest.mark.parametrize(
    ("tokens", "words", "template"),
    [
        (2, "a photo of a", "[2] of a {}."),
        (4, "a photo of a", "[4] {}."),
        (5, "a photo of a", "[5] {}."),
        (2, "", "[2] {}."),
    ],
)
def test_words_left_over_stay_frozen_text(uneven: Backbone, tokens: int, words: str, template: str) -> None:
    method = build_method("maple", uneven, TASK, {"tokens": tokens, "words": words})
    assert method.template == template
    worded = bool(words) and tokens <= 4
    start = uneven.text.words("a photo of a")[:tokens]
    context = method.get_parameter("context")
    assert context.shape == (tokens, 64)
    assert (len(start) == tokens and torch.equal(context, start)) == worded


def test_fewer_words_than_tokens(uneven: Backbone) -> None:
    with pytest.raises(DataError, match="'photo' has only 1 of the 2 tokens"):
        build_method("maple", uneven, TASK, {"tokens": 2, "words": "photo"})
