from __future__ import annotations

import pytest
import torch

from tests.plugins.prompt_methods import build, forward, published_count
from vlmadapt.plugin import SEEN, DataError, VlmadaptError


def test_published_parameter_count_with_a_teacher_of_the_same_width() -> None:
    """Nine depths of four image tokens, two square maps with biases, a batch norm."""
    assert published_count("promptkd") == 9 * 4 * 768 + 2 * (512 * 512 + 512) + 2 * 512


def test_the_loss_is_the_divergence_of_the_student_from_its_teacher_at_a_temperature() -> None:
    method = build("promptkd", temperature=2.0, weight=10.0)
    x = forward(method)
    teacher = (x.zero_shot.logits / 2).softmax(-1)
    student = (method.route(x, SEEN) / 2).softmax(-1)
    expected = (teacher * (teacher / student).log()).sum() / student.numel()
    ((name, weight, value),) = method.losses(x)
    assert (name, weight) == ("divergence", 40.0)
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


def test_a_step_on_one_image_is_refused_in_words() -> None:
    method = build("promptkd")
    x = forward(method).other(keep=torch.tensor([0]))
    with pytest.raises(DataError, match="two images or more"):
        list(method.losses(x))
    list(method.eval().losses(x))


def test_a_teacher_that_does_not_exist_is_named() -> None:
    with pytest.raises(VlmadaptError, match=r"nowhere' does not exist"):
        build("promptkd", teacher="nowhere")
