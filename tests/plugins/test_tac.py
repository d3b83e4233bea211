from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from tests.plugins.prompt_methods import backbone, build, published_count
from vlmadapt.core.descriptions import ClassDescriptions
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt_multimodal.tac import cluster_centers

POINTS = torch.tensor([[1.0, 0.0], [2.0, 0.2], [0.0, 1.0], [0.1, 3.0], [0.3, 1.0]])


def test_published_number_of_parameters() -> None:
    """12 * 5 tokens in each tower, and two maps with bias."""
    assert published_count("tac") == 60 * (512 + 768) + 513 * (512 + 768)


def test_clusters_are_means_of_the_points_with_the_closest_directions() -> None:
    expected = F.normalize(torch.stack([POINTS[:2].mean(0), POINTS[2:].mean(0)]), dim=-1)
    torch.testing.assert_close(cluster_centers(POINTS, torch.tensor([0, 2])), expected)
    torch.testing.assert_close(cluster_centers(POINTS, torch.tensor([2, 4])), expected.flip(0))


def test_a_cluster_without_points_keeps_its_centre() -> None:
    found = cluster_centers(POINTS[:2], torch.tensor([0, 0, 1]))
    torch.testing.assert_close(found, F.normalize(POINTS[[0, 0, 1]], dim=-1))


def test_the_context_starts_at_the_words_the_end_of_text_and_padding() -> None:
    text = backbone().text
    start = build("tac", text_tokens=7).contexts[0]
    assert torch.equal(start[:4], text.words("a photo of a"))
    assert torch.equal(start[4], text.end_token)
    assert torch.equal(start[5], start[6])


@pytest.mark.parametrize(("words", "tokens"), [("", 3), ("a photo of a", 21)])
def test_a_context_without_words_or_a_long_one_is_random(words: str, tokens: int) -> None:
    method = build("tac", text_tokens=tokens, words=words)
    assert method.contexts[0].shape[0] == tokens
    assert method.contexts[0].std() < 0.03  # random tokens have a deviation of 0.02
    assert method.words == " ".join(["X"] * tokens)


def test_clusters_of_fewer_classes_are_repeated() -> None:
    method, names = build("tac"), ("cat", "dog")
    described = ClassDescriptions({"cat": ["a cat."], "dog": ["a dog.", "a hound."]})
    fwd = ForwardPass(Engine(backbone()), method, names, [], torch.zeros(1, 3, 16, 16), None, described)

    class Support:
        def epochs(self, augmented: bool) -> object:
            return iter([iter([fwd])])

    with torch.no_grad():
        method.prepare(Support())
    classes = method.described(fwd)
    closeness = (method.clusters @ classes.T).sort(dim=1, descending=True).values
    torch.testing.assert_close(closeness[:, 0], torch.ones(5))
    assert {int(i) for i in (method.clusters @ classes.T).argmax(1)} == {0, 1}


def test_after_the_last_epoch_parameters_are_their_mean() -> None:
    method = build("tac", text_depth=1, image_depth=1)
    method.epoch_start(0, 3)
    for epoch, value in enumerate((1.0, 2.0, 6.0)):
        with torch.no_grad():
            for parameter in method.parameters():
                parameter.fill_(value)
        method.epoch_end(epoch, 3)
    assert all(torch.allclose(p, torch.full_like(p, 3.0)) for p in method.parameters())
