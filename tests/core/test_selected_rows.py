"""Sentences that are chosen on the device: the same features and gradients as those of all sentences, row by row."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partialmethod

import pytest
import torch
from torch import Tensor, nn

from tests import small
from vlmadapt import Backbone
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.frozen_cache import FrozenCache
from vlmadapt.core.method import Task
from vlmadapt.errors import PluginError
from vlmadapt.plugin import END, FIRST, IMAGE, TEXT, Hook, Method, Read, adapt, head, inject
from vlmadapt.testing.host_waits import host_waits

TEXTS = {
    "cat": ["a cat.", "an animal with whiskers and a long tail that likes to sleep.", "cat"],
    "red_fox": ["a red fox in the snow."],
    "teapot": ["a pot for tea, with a spout.", "a teapot."],
}


class Tokens(Method):
    """Tokens, branches and heads that a text can have, with a class's sentences."""

    Config = type("Config", (), {})
    at = FIRST

    def build(self, backbone: Backbone, task: Task) -> None:
        self.tokens = nn.Parameter(torch.randn(2, backbone.text.width, dtype=torch.float64))
        self.map = nn.Linear(backbone.text.width, backbone.text.width, dtype=torch.float64)

    def hooks(self) -> Iterable[Hook]:
        yield inject(TEXT, {1: self.tokens}, at=self.at)
        yield adapt(TEXT, 2, self.map)
        yield head(TEXT, "inner", after=1)
        yield head(TEXT, "tokens", read="injected", mean=True)
        yield head(IMAGE, "all", read=Read.ALL)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("backbone")).to(torch.float64)


def features(backbone: Backbone, method: Method, rows: Tensor | None, plan: str, chunk: int = 0) -> dict[str, Tensor]:
    classifier = Classifier(backbone, method, ("a photo of a {}.",), plan, chunk, descriptions=TEXTS)
    fwd = classifier.forward(torch.zeros(1, 3, 16, 16, dtype=torch.float64), tuple(TEXTS))
    found = fwd.sentences(rows=rows)
    return {name: found.features(TEXT, name) for name in ("pooled", "inner", "tokens")}


@pytest.mark.parametrize("chunk", [0, 2])
@pytest.mark.parametrize("plan", ["planned", "reference"])
@pytest.mark.parametrize("most", [2**31, 0])  # with 0 no activations of all sentences are kept
def test_rows_are_those_of_all_sentences(
    backbone: Backbone, plan: str, chunk: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FrozenCache, "__init__", partialmethod(FrozenCache.__init__, most))
    method, rows = Tokens(None, backbone, Task(tuple(TEXTS), ())), torch.tensor([1, 3, 5])
    every, chosen = features(backbone, method, None, "reference"), features(backbone, method, rows, plan, chunk)
    for name, expected in every.items():
        torch.testing.assert_close(chosen[name], expected[rows])
    weights = {name: torch.randn_like(f) for name, f in chosen.items()}
    gradients = [
        torch.autograd.grad(
            torch.stack([(f * weights[name]).sum() for name, f in found.items()]).sum(),
            [method.tokens, method.map.weight],
        )
        for found in ({name: f[rows] for name, f in every.items()}, chosen)
    ]
    torch.testing.assert_close(gradients[0], gradients[1])


def test_of_a_method_that_leaves_the_tower_untouched_they_are_kept(backbone: Backbone) -> None:
    class Untouched(Method):
        Config = type("Config", (), {})

    classifier = Classifier(backbone, Untouched(None, backbone, Task(tuple(TEXTS), ())), ("{}",), descriptions=TEXTS)
    fwd = classifier.forward(torch.zeros(1, 3, 16, 16, dtype=torch.float64), tuple(TEXTS))
    rows = torch.tensor([4, 0])
    every, chosen = fwd.sentences(), fwd.sentences(rows=rows)
    torch.testing.assert_close(chosen.text(), every.text()[rows])
    torch.testing.assert_close(chosen.zero_shot.text, every.zero_shot.text[rows])
    torch.testing.assert_close(every.zero_shot.text, every.text().detach())


def test_the_host_reads_nothing(backbone: Backbone) -> None:
    method = Tokens(None, backbone, Task(tuple(TEXTS), ()))
    classifier = Classifier(backbone, method, ("{}",), descriptions=TEXTS)

    images = torch.zeros(1, 3, 16, 16, dtype=torch.float64)

    def step() -> None:
        fwd = classifier.forward(images, tuple(TEXTS))
        texts = fwd.descriptions
        fwd.sentences(rows=texts.draw(fwd.device)).text()
        texts.mean(fwd.sentences().zero_shot.text)

    step()
    assert host_waits(step) == []


def test_tokens_at_the_end_are_refused(backbone: Backbone) -> None:
    method = Tokens(None, backbone, Task(tuple(TEXTS), ()))
    method.at = END
    with pytest.raises(PluginError, match="FIRST"):
        features(backbone, method, torch.tensor([0, 3, 4]), "planned")
