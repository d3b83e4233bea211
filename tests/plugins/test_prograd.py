from __future__ import annotations

import pytest
import torch

from tests.plugins.prompt_methods import StillTrainer, backbone, build, forward, published_count
from vlmadapt.plugin import DataError, LossTerm


def test_published_parameter_count() -> None:
    assert published_count("prograd") == 8_192


def test_conflicting_gradients_lose_the_conflict() -> None:
    g, h = torch.tensor([[1.0, 2.0], [0.5, -1.0]]), torch.tensor([[-2.0, 0.5], [1.0, 3.0]])
    whole, part = build("prograd"), build("prograd", strength=0.8)
    assert (g * h).sum() < 0
    assert abs((whole.aligned(g, h) * h).sum().item()) < 1e-6
    torch.testing.assert_close((part.aligned(g, h) * h).sum(), 0.2 * (g * h).sum())
    assert torch.equal(whole.aligned(g, -h), g)
    assert torch.equal(whole.aligned(g, torch.zeros_like(h)), g), "0/0 stays out"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_step_follows_the_guide(sign: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a guide that wants the opposite nothing remains of the gradient; with one that agrees all of it does."""
    method = build("prograd", start="random")
    loss = next(iter(method.losses(forward(method))))[2]
    terms: list[LossTerm] = [LossTerm("ce", 1.0, loss), LossTerm("guide", 0.0, sign * loss)]
    monkeypatch.setattr(method, "losses", lambda x: terms)
    trainer = StillTrainer(method)
    method.training_step(forward(method), trainer)
    gradient, applied = trainer.gradients(loss)[0], trainer.applied[0]
    assert gradient is not None and applied is not None and gradient.norm() > 1e-3
    torch.testing.assert_close(applied, gradient if sign > 0 else torch.zeros_like(gradient), rtol=1e-5, atol=1e-6)


def test_the_context_is_zeros_and_the_words_of_the_template() -> None:
    """Words are counted, tokens are taken: the comma leaves the last word frozen before the class name."""
    method = build("prograd", template="a type of pet, a photo of a {}.")
    assert method.template.text == "[16] a {}."
    assert torch.equal(method.context[:8], torch.zeros(8, 64))
    assert torch.equal(method.context[8:], backbone().text.words("a type of pet, a photo of"))
    x = forward(method)
    assert [template.text for template in x.plan.teacher.templates] == ["a type of pet, a photo of a {}."]


def test_a_template_without_words_in_front_starts_at_random() -> None:
    method = build("prograd", template="{} texture.")
    assert method.context.shape == (16, 64)
    assert (method.context != 0).all()


def test_too_many_words_are_refused() -> None:
    with pytest.raises(DataError, match="no room for the 4 words"):
        build("prograd", tokens=3)
