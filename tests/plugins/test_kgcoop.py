from __future__ import annotations

import torch

from tests.plugins.prompt_methods import build, disturb, forward, published_count
from vlmadapt.plugin import Method


def pull(method: Method) -> torch.Tensor:
    return next(weight * value for name, weight, value in method.losses(forward(method)) if name == "text")


def test_published_parameter_count() -> None:
    assert published_count("kgcoop") == 2_048


def test_it_starts_at_the_hand_written_prompts() -> None:
    """With the words of the template, the first step has zero-shot logits and nothing to pull."""
    method = build("kgcoop")
    x = forward(method)
    torch.testing.assert_close(x.logits(), x.zero_shot.logits, rtol=1e-4, atol=1e-3)
    assert abs(pull(method).item()) < 1e-5


def test_the_papers_distance_with_half_the_weight_is_the_codes() -> None:
    code, paper = build("kgcoop"), build("kgcoop", distance="squared", weight=4.0)
    disturb(code.context)
    paper.load_state_dict(code.state_dict())
    x = forward(paper)
    squared = (x.text() - x.zero_shot.text).square().sum(-1).mean()
    assert squared > 1e-4
    torch.testing.assert_close(pull(paper), 4 * squared)
    torch.testing.assert_close(pull(code), pull(paper))


def test_the_teacher_has_its_own_template() -> None:
    method = build("kgcoop", teacher="a photo of a {}, a type of texture.")
    x = forward(method)
    assert [template.text for template in x.plan.teacher.templates] == ["a photo of a {}, a type of texture."]
    assert pull(method) > 1e-3
