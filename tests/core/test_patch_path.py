"""Integrated gradients with respect to patches, against plain autograd and against what the patches add in truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import small
from tests.core import families, hook_shapes
from tests.core.hook_shapes import Synthetic
from tests.core.test_encode_images import by_open_clip
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.patch_path import PatchPath
from vlmadapt.plugin import AFTER_BLOCK, IMAGE, OVER, Hook, Template, adapt, inject

LAYER = 1
TEMPLATES = (Template.parse("a photo of a {}."),)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip")).double()


@pytest.mark.parametrize("branch", ["adapted", "zero-shot"])
def test_contributions_are_those_of_plain_autograd_in_the_models_own_blocks(backbone: Backbone, branch: str) -> None:
    image, aim = inputs(1, 1, 16).double(), torch.randn(32, generator=torch.Generator().manual_seed(2)).double()
    path = PatchPath(LAYER)
    images = FrozenImages(image.expand(4, -1, -1, -1), path=path)
    fwd = ForwardPass(Engine(backbone), Synthetic(backbone, hook_shapes.nothing), small.NAMES, TEMPLATES, images)
    found = path.contributions((fwd.image() if branch == "adapted" else fwd.zero_shot.image) @ aim)

    visual = backbone.model.visual
    tokens = by_open_clip(backbone, image, LAYER).detach()
    mean = tokens[:, 1:].mean(dim=1, keepdim=True)
    expected = torch.zeros(tokens.shape[1] - 1, dtype=torch.float64)
    for part in (0.125, 0.375, 0.625, 0.875):
        patches = (mean + part * (tokens[:, 1:] - mean)).requires_grad_()
        x = torch.cat([tokens[:, :1], patches], dim=1)
        for block in visual.transformer.resblocks[LAYER:]:
            x = block(x)
        score = F.normalize(visual.ln_post(x[:, 0]) @ visual.proj, dim=-1) @ aim
        (gradient,) = torch.autograd.grad(score.sum(), patches)
        expected += ((tokens[:, 1:] - mean) * gradient)[0].sum(dim=-1) / 4
    assert found is not None and path.complete
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("declare", [hook_shapes.nothing, hook_shapes.first_in_both], ids=lambda f: f.__name__)
@pytest.mark.parametrize("family", ["SigLIP", "EVA-02", "timm ViT with registers"])
def test_contributions_go_through_the_methods_hooks(
    family: str, declare: Callable[[Synthetic], Iterable[Hook]]
) -> None:
    """Patches are led along the path by a branch of the test's own, which sees all tokens after the block before."""
    backbone = families.backbone(family)
    tower, layer = backbone.image, backbone.image.depth - 1
    pixels = torch.randn(1, 3, *tower.size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    aim = torch.randn(tower.joint, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    method = Synthetic(backbone, declare)
    inserted = 0 if declare is hook_shapes.nothing else 3  # after the leading tokens
    first, patches = tower.leading + inserted, tower.sequence_length - tower.leading

    def score(images: Tensor | FrozenImages, *more: Hook) -> Tensor:
        fwd = ForwardPass(Engine(backbone), method, small.NAMES, TEMPLATES, images)
        return fwd.other(hooks=[*method.hooks(), *more]).image() @ aim

    expected = torch.zeros(patches, dtype=torch.float64)
    for part in (0.25, 0.75):
        change = torch.zeros(1, patches, tower.width, dtype=torch.float64, requires_grad=True)
        seen: list[Tensor] = []

        def lead(x: Tensor, part: float = part, change: Tensor = change, seen: list[Tensor] = seen) -> Tensor:
            own = x[:, first : first + patches]
            mean = own.mean(dim=1, keepdim=True)
            seen.append((own - mean).detach())
            return torch.cat([x[:, :first], mean + part * (own - mean) + change, x[:, first + patches :]], dim=1)

        total = score(pixels, adapt(IMAGE, layer - 1, lead, AFTER_BLOCK, replace=True)).sum()
        (gradient,) = torch.autograd.grad(total, change)
        expected += (seen[0] * gradient)[0].sum(dim=-1) / 2
    path = PatchPath(layer)
    found = path.contributions(score(FrozenImages(pixels.expand(2, -1, -1, -1), path=path)))
    assert found is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-7)


def test_contributions_sum_to_what_the_patches_add(backbone: Backbone) -> None:
    image, aim = inputs(1, 1, 16).double(), torch.randn(32, generator=torch.Generator().manual_seed(2)).double()
    mean = by_open_clip(backbone, image, LAYER)[:, 1:].mean(dim=1).expand(4, -1)

    def score(images: Tensor | FrozenImages, *hooks: Hook) -> Tensor:
        fwd = ForwardPass(Engine(backbone), Synthetic(backbone, hook_shapes.nothing), small.NAMES, TEMPLATES, images)
        return fwd.other(hooks=hooks).image() @ aim

    path = PatchPath(LAYER)
    found = path.contributions(score(FrozenImages(image.expand(64, -1, -1, -1), path=path)))
    added = score(image) - score(image, inject(IMAGE, {LAYER: mean}, at=OVER))
    assert found is not None
    torch.testing.assert_close(found.double().sum(), added[0].detach(), rtol=1e-3, atol=1e-7)


def test_a_pass_without_gradients_is_noticed(backbone: Backbone) -> None:
    path = PatchPath(LAYER)
    images = FrozenImages(inputs(1, 1, 16).double(), path=path)
    fwd = ForwardPass(Engine(backbone), Synthetic(backbone, hook_shapes.nothing), small.NAMES, TEMPLATES, images)
    with torch.no_grad():
        fwd.image()
    assert not path.complete
    assert path.contributions(torch.zeros(1)) is None
