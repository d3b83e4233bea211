from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import small
from tests.plugins.few_shot import FewShots
from tests.plugins.prompt_methods import TEMPLATE, backbone, build, forward, published_count
from vlmadapt.core.adapter import load_adapter, save_adapter
from vlmadapt.core.build import build_method
from vlmadapt.core.method import Task
from vlmadapt.plugin import IMAGE, SEEN, UNKNOWN, UNSEEN, DataError, VlmadaptError

sklearn = pytest.importorskip("sklearn.linear_model")

from vlmadapt_adapters.linear_probe import best_exponent  # noqa: E402

NONE = (0, 0, 0, 0, 0)
NOISY = 4.0


@torch.no_grad()
def prepared(names: tuple[str, ...] = small.NAMES, options: dict[str, Any] | None = None, **support: Any) -> Any:
    method = build_method("linear-probe", backbone(), Task(names, (TEMPLATE,)), options or {})
    method.prepare(FewShots(method, names, **support))
    return method


def arrays(batches: Any) -> tuple[np.ndarray, np.ndarray]:
    found = [(x.features(IMAGE).double(), x.labels) for x in batches]
    return torch.cat([f for f, _ in found]).numpy(), torch.cat([y for _, y in found]).numpy()


@torch.no_grad()
def expected(c: float, method: Any, names: tuple[str, ...] = small.NAMES, **support: Any) -> np.ndarray:
    """Logarithms of scikit-learn's own probabilities for a batch."""
    train = arrays(next(iter(FewShots(method, names, **support).epochs(augmented=False))))
    solved = sklearn.LogisticRegression(C=c, max_iter=1000).fit(*train)
    return solved.predict_log_proba(forward(method, names).features(IMAGE).double().numpy())


def test_published_number_of_parameters() -> None:
    assert published_count("linear-probe") == 513 * len(small.NAMES)


@pytest.mark.parametrize("names", [small.NAMES, small.NAMES[:2]], ids=["many", "two"])
def test_without_validation_it_is_scikit_learn_at_the_given_strength(names: tuple[str, ...]) -> None:
    support = {"shots": (3,) * len(names), "held_out": (0,) * len(names)}
    method = prepared(names, {"c": 0.05}, **support)
    with torch.no_grad():
        ours = method.route(forward(method, names), SEEN).log_softmax(-1)
    np.testing.assert_allclose(ours.numpy(), expected(0.05, method, names, **support), rtol=1e-4, atol=1e-5)


def published_search(accuracy: Callable[[float], float]) -> float:
    """The C that the published procedure ends at, written down again from its description, in C itself."""
    values = [1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6]
    accuracies = [accuracy(c) for c in values]
    peak = values[accuracies.index(max(accuracies))]
    interval = [peak / 10, peak * 10]
    winner = 0.0
    for _ in range(8):
        upper_wins = accuracy(interval[0]) < accuracy(interval[1])
        winner = interval[upper_wins]
        interval[not upper_wins] = math.sqrt(interval[0] * interval[1])
    return winner


@pytest.mark.parametrize("best", [-7.3, -4.0, -0.4, 0.0, 0.77, 3.2, 6.9])
@pytest.mark.parametrize("digits", [0, 1, 6], ids=["plateaus", "steps", "smooth"])
def test_the_search_follows_the_published_rule(best: float, digits: int) -> None:
    def accuracy(exponent: float) -> float:
        return round(100 / (1 + abs(exponent - best)), digits) + 0.0

    ours = best_exponent(accuracy)
    assert ours == pytest.approx(math.log10(published_search(lambda c: accuracy(math.log10(c)))), abs=1e-9)


def test_the_strength_is_chosen_on_a_few_validation_images_of_each_class() -> None:
    uneven, held_out = (3, 1, 2, 3, 3), (9, 2, 9, 9, 3)
    method = prepared(shots=uneven, held_out=held_out, noise=NOISY)
    support = FewShots(method, shots=uneven, held_out=held_out, noise=NOISY)
    with torch.no_grad():
        train = arrays(next(iter(support.epochs(augmented=False))))
        features, labels = arrays(support.validation())
    first = [i for i, y in enumerate(labels) if (labels[:i] == y).sum() < 3]
    assert len(first) == 3 + 2 + 3 + 3 + 3

    def chosen(images: list[int]) -> float:
        def accuracy(c: float) -> float:
            solved = sklearn.LogisticRegression(C=c, max_iter=1000).fit(*train)
            return solved.score(features[images], labels[images])

        return published_search(accuracy)

    c = chosen(first)
    assert c != pytest.approx(chosen(list(range(len(labels)))), rel=0.01), "it must matter which images are used"
    with torch.no_grad():
        ours = method.route(forward(method), SEEN).log_softmax(-1)
    np.testing.assert_allclose(ours, expected(c, method, shots=uneven, noise=NOISY), rtol=1e-3, atol=1e-4)


def test_a_saved_probe_answers_as_before_and_refuses_other_classes(tmp_path: Path) -> None:
    method = prepared(held_out=NONE)
    save_adapter(tmp_path, "linear-probe", method, backbone(), [TEMPLATE])
    loaded, _ = load_adapter(tmp_path, backbone(), ("otter", "comet"))
    with torch.no_grad():
        torch.testing.assert_close(loaded.route(forward(loaded), SEEN), method.route(forward(method), SEEN))
    with pytest.raises(DataError, match="2 unknown classes"):
        loaded.route(forward(loaded, names=("otter", "comet")), UNKNOWN)
    with pytest.raises(DataError, match="5 unseen classes"):
        loaded.route(forward(loaded), UNSEEN)


def test_a_class_without_images_is_refused() -> None:
    with pytest.raises(DataError, match="a support image of each"):
        prepared(shots=(3, 3, 0, 3, 3))


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    method = build("linear-probe")
    with pytest.raises(VlmadaptError, match="pip install scikit-learn"):
        method.prepare(FewShots(method))
