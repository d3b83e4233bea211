from __future__ import annotations

import pytest
import torch

from tests.plugins.prompt_methods import build, forward, published_count
from vlmadapt.core.loading import untrained
from vlmadapt.plugin import SEEN, TEXT, BackboneError


def test_published_parameter_count() -> None:
    assert published_count("plot") == 32_768


def test_one_context_gives_the_mean_cosine_of_local_features() -> None:
    """With a single prompt the uniform marginals leave only one plan."""
    method = build("plot", prompts=1)
    x = forward(method)
    local = x.image("tokens")[:, 1:]
    expected = x.scale * torch.einsum("bmd,cd->bc", local, x.text()) / local.shape[1]
    torch.testing.assert_close(method.route(x, SEEN), expected, rtol=1e-4, atol=1e-3)


def test_pooled_adds_the_plain_logits() -> None:
    method, pooled = build("plot"), build("plot", pooled=True)
    x = forward(method)
    mean = torch.nn.functional.normalize(x.features(TEXT).mean(0), dim=-1)
    added = pooled.route(forward(pooled), SEEN) - method.route(x, SEEN)
    torch.testing.assert_close(added, x.scale * x.image() @ mean.T, rtol=1e-4, atol=1e-3)


def test_a_plan_moves_all_mass_between_uniform_marginals_and_has_no_gradient() -> None:
    method = build("plot", prompts=3, tolerance=0.0)
    cosines = method.similarities(forward(method))
    plans = method.plans(cosines)
    assert cosines.requires_grad and not plans.requires_grad
    m, n = plans.shape[-2:]
    assert (m, n) == (4, 3)
    torch.testing.assert_close(plans.sum(-1), torch.full(plans.shape[:-1], 1 / m), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(plans.sum(-2), torch.full((*plans.shape[:-2], n), 1 / n), rtol=1e-4, atol=1e-6)
    # It prefers what is alike: more than sharing out everything evenly.
    assert ((plans * cosines).sum((-2, -1)) > cosines.mean((-2, -1))).all()


def test_a_resnet_is_refused() -> None:
    with pytest.raises(BackboneError, match="image tower"):
        build("plot", on=untrained("RN50"))
