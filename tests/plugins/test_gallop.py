from __future__ import annotations

import pytest
import torch

from tests.plugins.prompt_methods import build, forward, published_count
from vlmadapt.plugin import IMAGE, SEEN, DataError
from vlmadapt_prompts.gallop import LOCAL, PromptDropout, best_patches


def test_published_parameter_count() -> None:
    """Eight contexts of four tokens, and a square map of local features."""
    assert published_count("gallop") == 8 * 4 * 512 + 768 * 768


def test_local_scores_are_means_over_the_best_patches_of_each_prompt() -> None:
    cosines = torch.tensor([0.1, 0.5, 0.3, 0.9]).reshape(1, 4, 1, 1).expand(-1, -1, -1, 3)
    found = best_patches(cosines, [1, 2, 9])  # there are only four patches
    torch.testing.assert_close(found[0, 0], torch.tensor([0.9, 0.7, 0.45]))


def test_an_image_is_matched_to_the_prompts_it_draws_in_training_and_to_all_in_tests() -> None:
    dropout = PromptDropout(0.5)
    cosines = torch.tensor([[[1.0, 2.0, 4.0, 8.0]], [[1.0, 2.0, 4.0, 8.0]]])
    dropout.draw = lambda *of: torch.tensor([[0, 3], [2, 2]])  # type: ignore[method-assign]
    torch.testing.assert_close(dropout(cosines), torch.tensor([[4.5], [4.0]]))
    torch.testing.assert_close(dropout.eval()(cosines), torch.tensor([[3.75], [3.75]]))


def test_each_image_draws_as_many_prompts_as_dropout_leaves() -> None:
    shapes = [PromptDropout(p).draw(2, 4, max(4 - int(p * 4), 1), torch.device("cpu")).shape for p in (0.5, 0.75, 1.0)]
    assert shapes == [(2, 2), (2, 1), (2, 1)]


def test_without_replacement_an_image_draws_each_prompt_once() -> None:
    cosines = torch.rand(5, 3, 4)
    torch.testing.assert_close(PromptDropout(0.0, replacement=False)(cosines), cosines.mean(-1))
    drawn = PromptDropout(0.5, replacement=False).draw(9, 4, 2, torch.device("cpu"))
    assert (drawn[:, 0] != drawn[:, 1]).all()


def test_contexts_have_a_vector_for_each_token_of_their_words() -> None:
    method = build("gallop", words="A photo of a, a type of pet")
    assert method.global_contexts.shape[1] == 9  # eight words and a comma
    assert [template.text for template in forward(method).plan.prompts] == ["[9] {}"]


def test_local_features_may_go_without_a_map() -> None:
    method = build("gallop", local_map=False)
    assert {name for name, _ in method.named_parameters()} == {"global_contexts", "local_contexts"}
    torch.testing.assert_close(
        forward(method).features(IMAGE, LOCAL), forward(build("gallop")).features(IMAGE, LOCAL), rtol=1e-4, atol=1e-4
    )


def test_scores_average_global_and_local_ones() -> None:
    method = build("gallop", patches=[1, 3])
    x = forward(method)
    whole = torch.einsum("bd,gcd->bc", x.image(), x.text()[:4]) / 4
    patches = torch.einsum("bpd,lcd->bpcl", x.image(LOCAL)[:, 1:], x.text()[4:])
    local = (patches[..., 0].amax(1) + patches[..., 1].topk(3, dim=1).values.mean(1)) / 2
    torch.testing.assert_close(method.route(x, SEEN), x.scale * (whole + local) / 2, rtol=1e-4, atol=1e-3)


def test_the_map_of_local_features_starts_as_the_identity() -> None:
    method = build("gallop")
    x = forward(method)
    before = x.features(IMAGE, LOCAL)
    with torch.no_grad():
        method.map.weight.mul_(3.0)
    torch.testing.assert_close(forward(method).features(IMAGE, LOCAL), 3 * before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{"global_prompts": 0}, {"patches": []}, {"patches": [5, 0]}])
def test_impossible_numbers_of_prompts_and_patches_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(DataError, match="GalLoP needs"):
        build("gallop", **options)
