from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

from tests.plugins.prompt_methods import StillTrainer, backbone, build, forward, published_count
from vlmadapt.plugin import SEEN, DataError, Hook
from vlmadapt_prompts.proda import bound, mean_overlap


def test_published_parameter_count() -> None:
    assert published_count("proda") == 262_144


def test_the_bound_is_that_of_a_gaussian_over_classifiers() -> None:
    """Against the covariance between all classes, feature by feature, as the paper writes it."""
    prompts, classes, images, width = 5, 4, 3, 6
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(prompts, classes, width, generator=generator, dtype=torch.float64)
    x = torch.randn(images, width, generator=generator, dtype=torch.float64)
    labels, scale = torch.tensor([2, 0, 3]), torch.tensor(7.0, dtype=torch.float64)
    mean = text.mean(0)
    covariance = torch.einsum("kiq,kjq->qij", text - mean, text - mean) / (prompts + 1)
    for b, y in enumerate(labels.tolist()):
        for i in range(classes):
            spread = sum(
                x[b, q] ** 2 * (covariance[q, y, y] + covariance[q, i, i] - 2 * covariance[q, y, i])
                for q in range(width)
            )
            expected = scale * x[b] @ mean[i] + scale**2 / 2 * spread
            torch.testing.assert_close(bound(x, text, labels, scale)[b, i], expected)


def test_orthogonality_looks_at_different_prompts_only() -> None:
    assert mean_overlap(torch.eye(3)) == 0
    assert mean_overlap(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])) == 1


def test_the_class_name_has_three_positions() -> None:
    method = build("proda", prompts=8, tokens=5)
    rows = [template.write(["red panda"], backbone().text) for template in method.templates]
    assert [row.context.tolist() for row in rows] == (
        [[[3, 4, 5, 6, 7]]] * 2 + [[[1, 2, 5, 6, 7]]] * 2 + [[[1, 2, 3, 4, 5]]] * 4
    )


def test_a_raw_name_is_cut_where_the_clean_one_would_end() -> None:
    """`red_panda` has three tokens; the two that `red panda` has come before the context."""
    text = backbone().text
    front = build("proda", prompts=4, tokens=2, raw_names=True).templates[0].write(["red_panda"], text)
    red, underscore, panda, stop = text.tokenize(["red_panda."])[0, 1:5].tolist()
    filler = int(text.tokenize(["X"])[0, 1])
    assert front.ids[0, 1:7].tolist() == [red, underscore, filler, filler, panda, stop]
    assert front.context.tolist() == [[3, 4]]


def test_every_context_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    method = build("proda", prompts=8, tokens=2, batch=2)
    prompts_of, used = method.prompts_of, list[int]()

    def watched(chosen: Iterable[int]) -> list[Hook]:
        picked = list(chosen)
        used.extend(picked if len(picked) == 2 else [])
        hooks: list[Hook] = prompts_of(picked)
        return hooks

    monkeypatch.setattr(method, "prompts_of", watched)
    for _ in range(8):
        method.training_step(forward(method), StillTrainer(method))
    assert sorted(used[:8]) == sorted(used[8:]) == list(range(8))
    assert used[:8] != used[8:], "a new order is drawn"


def test_while_training_the_contexts_of_the_step_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop computes scores after each step; they must not cost a pass through all contexts."""
    method = build("proda", prompts=8, tokens=2, batch=2).train()
    x = forward(method)
    monkeypatch.setattr(x, "text", lambda: pytest.fail("all contexts were run"))
    method.training_step(x, StillTrainer(method))
    assert method.route(x, SEEN).shape == (len(x.images), len(x.names))


def test_the_turn_is_part_of_the_state() -> None:
    method, resumed = build("proda", prompts=8, tokens=2), build("proda", prompts=8, tokens=2)
    method.training_step(forward(method), StillTrainer(method))
    resumed.load_state_dict(method.state_dict())
    losses = [[value.item() for _, _, value in m.losses(forward(m))] for m in (method, resumed)]
    assert losses[0] == losses[1]
    method.training_step(forward(method), StillTrainer(method))
    assert losses[0] != [value.item() for _, _, value in build("proda", prompts=8, tokens=2).losses(forward(method))]


def test_classes_are_answered_by_the_mean_of_all_contexts() -> None:
    method = build("proda", prompts=4, tokens=2)
    x = forward(method)
    each = [x.other(hooks=method.prompts_of([k])).logits() for k in range(4)]
    torch.testing.assert_close(method.route(x, SEEN), torch.stack(each).mean(0), rtol=1e-4, atol=1e-3)


def test_prompts_must_fill_their_places() -> None:
    with pytest.raises(DataError, match="6 prompts"):
        build("proda", prompts=6)
