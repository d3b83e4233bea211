from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.plugins.heads import asked, prepared
from tests.plugins.prompt_methods import TEMPLATE, forward, published_count
from vlmadapt.plugin import SEEN, TEXT, prompt
from vlmadapt_heads.prototypes import text_prototypes, unit_text_prototypes


def test_published_number_of_parameters() -> None:
    assert published_count("zs-lp") == 5 * 512


@torch.no_grad()
def test_it_starts_as_the_zero_shot_classifier() -> None:
    method = prepared("zs-lp")
    x = forward(method)
    torch.testing.assert_close(method.route(x, SEEN), x.zero_shot.logits, rtol=1e-4, atol=1e-3)


@torch.no_grad()
def test_prototypes_start_with_the_length_of_the_text_features() -> None:
    method = prepared("zs-lp")
    torch.testing.assert_close(method.prototypes.data, forward(method).features(TEXT), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(method.prototypes.norm(dim=-1), torch.ones(5), atol=0.05)


@torch.no_grad()
def test_several_templates_are_averaged_with_and_without_their_lengths() -> None:
    x = asked(prepared("zs-lp"))
    each = x.other(hooks=[prompt(TEMPLATE, "itap of a {}.")]).features(TEXT)
    assert each.shape[0] == 2
    torch.testing.assert_close(text_prototypes(x), each.mean(0), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(unit_text_prototypes(x), F.normalize(each, dim=-1).mean(0), rtol=1e-5, atol=1e-5)


def test_the_length_of_a_prototype_plays_no_part_in_the_scores() -> None:
    method = prepared("zs-lp")
    before = method.route(forward(method), SEEN)
    with torch.no_grad():
        method.prototypes.mul_(torch.tensor([0.5, 2.0, 3.0, 1.0, 7.0])[:, None])
    torch.testing.assert_close(method.route(forward(method), SEEN), before, rtol=1e-4, atol=1e-4)
