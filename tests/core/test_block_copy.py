"""Whole blocks are trained as differences and merged into an open_clip model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from tests.core import families
from vlmadapt.core.merge import merged_model
from vlmadapt.core.plan import derive
from vlmadapt.core.templates import Template
from vlmadapt.plugin import IMAGE, TEXT, Backbone, BackboneError, BlockCopy, Hook, Method, Recipe, Task
from vlmadapt.testing import MethodUnderTest, run_checks
from vlmadapt.testing.data import CLASSES


@dataclass
class Options:
    """Options."""


class UpperBlocks(Method):
    """The last block of each tower, trained."""

    Config = Options
    recipe = Recipe(optimizer="sgd", lr=0.01, epochs=1)
    api_version = 2

    def build(self, backbone: Backbone, task: Task) -> None:
        self.copies = nn.ModuleList(BlockCopy(backbone, side, backbone.tower(side).depth - 1) for side in (TEXT, IMAGE))

    def hooks(self) -> Iterable[Hook]:
        for copied in self.copies:
            yield from copied.hooks()


@pytest.fixture(scope="module")
def tested() -> MethodUnderTest:
    return MethodUnderTest(UpperBlocks)


def test_trained_blocks_start_as_the_frozen_ones(tested: MethodUnderTest) -> None:
    fwd = tested.classifier(tested.build()).forward(tested.shots().images, CLASSES)
    torch.testing.assert_close(fwd.logits(), fwd.zero_shot.logits, rtol=1e-5, atol=1e-5)
    frozen = tested.backbone.image.blocks[-1].module
    copied = tested.build().copies[1]
    assert sum(p.numel() for p in copied.parameters()) == sum(p.numel() for p in frozen.parameters())


@pytest.mark.slow
def test_trained_blocks_conform(tested: MethodUnderTest) -> None:
    assert not [result for result in run_checks(tested, quick=True) if not result.ok]


@torch.no_grad()
def test_merged_blocks_give_the_features_of_the_trained_ones(tested: MethodUnderTest) -> None:
    method: Any = tested.build()
    for parameter in method.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
    fwd = tested.classifier(method).forward(tested.shots().images, CLASSES)
    plan = derive(method.hooks(), tested.backbone, [Template.parse("a photo of a {}.")])
    merged = merged_model(tested.backbone, plan)
    torch.testing.assert_close(fwd.features(IMAGE), merged.encode_image(fwd.images), rtol=1e-4, atol=1e-4)
    ids = tested.backbone.text.tokenize([f"a photo of a {name}.".replace("_", " ") for name in CLASSES])
    torch.testing.assert_close(fwd.features(TEXT), merged.encode_text(ids), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(fwd.features(IMAGE), tested.backbone.image.encode(fwd.images), atol=1e-2)


def test_blocks_of_another_kind_are_refused() -> None:
    backbone = families.backbone("SigLIP")
    with pytest.raises(BackboneError, match="open_clip's own CLIP towers"):
        BlockCopy(backbone, IMAGE, 0)
