from __future__ import annotations

import torch

from tests import small
from tests.plugins.prompt_methods import backbone, build, forward, published_count
from vlmadapt.plugin import CONTEXT, EMBEDDING, TEXT, inject, prompt


def test_published_parameter_count() -> None:
    assert published_count("tcp") == 331_904


def test_a_map_without_input_makes_a_shared_deep_context() -> None:
    method = build("tcp", layer=2)
    torch.nn.init.zeros_(method.up.weight)
    x = forward(method)
    shared = method.up.bias.unflatten(0, method.context.shape)
    deep = x.other(hooks=[prompt("[4] {}."), inject(TEXT, {EMBEDDING: method.context, 1: shared}, at=CONTEXT)])
    torch.testing.assert_close(x.text(), deep.text(), rtol=1e-5, atol=1e-5)


def test_tokens_follow_their_class() -> None:
    """A class is answered alike in every list of classes, seen in training or not."""
    method = build("tcp", layer=3)
    names = ("a class of its own", *reversed(small.NAMES))
    x, other = forward(method), forward(method, names)
    tokens = method.class_tokens(x)
    assert tokens.shape == (len(small.NAMES), 4, 64)
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-3)
    torch.testing.assert_close(other.logits()[:, 1:].flip(1), x.logits(), rtol=1e-4, atol=1e-3)


def test_rows_and_teacher_have_their_own_templates() -> None:
    words = "a photo of a"
    method = build("tcp", layer=2, words=words, template="{}, a type of pet.", teacher="a pet, a {}.")
    x = forward(method)
    assert [template.text for template in x.plan.prompts] == ["[4] {}, a type of pet."]
    assert [template.text for template in x.plan.teacher.templates] == ["a pet, a {}."]
    assert torch.equal(method.context, backbone().text.words(words))


def test_class_tokens_also_replace_the_words_after_a_short_context() -> None:
    """Four of them as in the published code, whose templates have an X for each."""
    method = build("tcp", tokens=2, layer=2, template="of {}.")
    x = forward(method)
    assert [template.text for template in x.plan.prompts] == ["[4] {}."]
    assert torch.equal(method.covered, backbone().text.words("of X"))
    assert method.class_tokens(x).shape == (len(small.NAMES), 4, 64)


def test_a_long_context_has_as_many_class_tokens() -> None:
    method = build("tcp", tokens=6, layer=2)
    assert method.class_tokens(forward(method)).shape == (len(small.NAMES), 6, 64)
