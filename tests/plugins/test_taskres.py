from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.plugins.heads import asked, prepared
from tests.plugins.prompt_methods import TEMPLATE, disturb, forward, published_count
from vlmadapt.plugin import SEEN, TEXT, prompt


def test_published_number_of_parameters() -> None:
    assert published_count("taskres") == 5 * 512


@torch.no_grad()
def test_before_training_it_is_zero_shot_clip() -> None:
    method = prepared("taskres")
    x = forward(method)
    torch.testing.assert_close(method.route(x, SEEN), x.zero_shot.logits, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_residuals_are_added_to_the_unnormalised_mean_of_the_text_features() -> None:
    method = prepared("taskres", alpha=0.7)
    disturb(method.residual)
    x = asked(method)
    texts = x.other(hooks=[prompt(TEMPLATE, "itap of a {}.")]).features(TEXT).mean(0) + 0.7 * method.residual
    expected = torch.stack([x.scale * F.cosine_similarity(image, texts, dim=-1) for image in x.image()])
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-3)


def test_only_residuals_get_a_gradient_and_alpha_scales_it() -> None:
    gradients = []
    for alpha in (0.5, 1.0):
        method = prepared("taskres", alpha=alpha)
        (term,) = method.losses(forward(method))
        gradients.append(torch.autograd.grad(term.value, method.residual)[0])
    torch.testing.assert_close(2 * gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
