"""A forward pass: what it answers, what it computes once, and the passes that are derived from it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests import small
from tests.core.hook_shapes import (
    Synthetic,
    context_per_image,
    first_in_both,
    nothing,
    several_passes,
    variants_of_one_template,
)
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core import run_tower
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass, similarity
from vlmadapt.core.side import IMAGE, TEXT
from vlmadapt.core.templates import Template

NAMES = small.NAMES
TEMPLATES = [Template.parse("a photo of a {}.")]
LABELS = torch.tensor([4, 0, 2])


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip")).double()


def images() -> Tensor:
    return inputs(1, 3, 16).double()


def forward(backbone: Backbone, method: Synthetic, pixels: Tensor | None = None, labels: Tensor | None = LABELS):  # type: ignore[no-untyped-def]
    pixels = images() if pixels is None else pixels
    return ForwardPass(Engine(backbone), method, NAMES, TEMPLATES, pixels, labels)


@pytest.fixture
def touched(backbone: Backbone) -> ForwardPass:
    """A pass of a method that touches both towers."""
    return forward(backbone, Synthetic(backbone, first_in_both))


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs of a block from now on."""
    seen: list[str] = []
    for name in ("run_block", "run_last_block"):
        run = getattr(run_tower, name)
        monkeypatch.setattr(run_tower, name, lambda *a, run=run, name=name: (seen.append(name), run(*a))[1])
    return seen


# -- what it answers --------------------------------------------------------------------------------------------------


def test_an_untouched_method_answers_as_clip_does(backbone: Backbone) -> None:
    fwd = forward(backbone, Synthetic(backbone, nothing))
    ids = backbone.text.tokenize([f"a photo of a {name.replace('_', ' ')}." for name in NAMES])
    image, text, scale = backbone.model(images(), ids)
    torch.testing.assert_close(fwd.logits(), scale * image @ text.T)
    torch.testing.assert_close(fwd.zero_shot.logits, scale * image @ text.T)


def test_logits_are_the_scaled_cosines_of_a_head_with_the_classes(touched: ForwardPass) -> None:
    text = F.normalize(touched.features(TEXT), dim=-1)
    for head in ("pooled", "extra"):
        image = F.normalize(touched.features(IMAGE, head), dim=-1)
        torch.testing.assert_close(touched.image(head), image)
        torch.testing.assert_close(touched.logits(head), touched.scale * image @ text.T)
    assert not torch.allclose(touched.logits("extra"), touched.logits())
    torch.testing.assert_close(touched.scale, touched.scale.new_tensor(100.0), rtol=1e-5, atol=0.0)


def test_the_frozen_branch_has_no_gradient_and_does_not_see_the_method(backbone: Backbone) -> None:
    fwd = forward(backbone, Synthetic(backbone, first_in_both))
    plain = forward(backbone, Synthetic(backbone, nothing))
    assert fwd.logits().requires_grad
    assert not fwd.zero_shot.logits.requires_grad
    torch.testing.assert_close(fwd.zero_shot.logits, plain.zero_shot.logits)


def test_each_image_has_its_own_classes_where_tokens_differ_by_image(backbone: Backbone) -> None:
    method = Synthetic(backbone, context_per_image)
    together = forward(backbone, method)
    assert together.text().shape == (3, len(NAMES), 32)
    alone = torch.cat([forward(backbone, method, images()[i : i + 1]).logits() for i in range(3)])
    torch.testing.assert_close(together.logits(), alone)


def test_variants_and_passes_are_a_dimension_of_their_own(backbone: Backbone) -> None:
    variants = forward(backbone, Synthetic(backbone, variants_of_one_template))
    assert variants.text().shape == (4, len(NAMES), 32)
    assert variants.image("local").shape == (3, 5, 32)
    assert forward(backbone, Synthetic(backbone, several_passes)).image().shape == (3, 3, 32)


def test_similarity_takes_classes_of_each_image() -> None:
    image, text = torch.randn(2, 4), torch.randn(3, 4)
    per_image = torch.stack([text, 2 * text])
    torch.testing.assert_close(similarity(image, per_image), similarity(image, text) * torch.tensor([[1.0], [2.0]]))


# -- labels -----------------------------------------------------------------------------------------------------------


def test_labels_are_those_given_and_asking_for_others_is_refused(backbone: Backbone) -> None:
    method = Synthetic(backbone, nothing)
    assert forward(backbone, method).labels is LABELS
    with pytest.raises(ValueError, match="this forward pass has no labels; only training has"):
        _ = forward(backbone, method, labels=None).labels


# -- once -------------------------------------------------------------------------------------------------------------


def test_everything_is_computed_once(touched: ForwardPass, blocks: list[str]) -> None:
    assert touched.logits() is touched.logits()
    assert touched.image("extra") is touched.image("extra")
    _ = touched.logits("extra"), touched.zero_shot.logits
    asked = len(blocks)
    assert asked
    _ = touched.logits(), touched.logits("extra"), touched.text(), touched.zero_shot.logits, touched.features(IMAGE)
    assert len(blocks) == asked


def test_nothing_is_computed_before_it_is_used(touched: ForwardPass, blocks: list[str]) -> None:
    _ = touched.names, touched.images, touched.labels, touched.device, touched.plan
    assert not blocks
    touched.image()
    seen = len(blocks)
    assert seen
    touched.zero_shot.image  # noqa: B018 - shares the block below the first touched one
    assert len(blocks) == seen + 2


def test_a_methods_own_values_are_computed_once_and_do_not_meet_the_passs(touched: ForwardPass) -> None:
    made = []
    for _ in range(2):
        touched.once("image", lambda: made.append(1))
        touched.once(("image", "pooled"), lambda: made.append(2))
    assert made == [1, 2]
    assert touched.image().shape == (3, 32)
    assert touched.once("none", lambda: None) is None


# -- derived passes ---------------------------------------------------------------------------------------------------


def test_a_pass_without_hooks_is_the_frozen_backbone(touched: ForwardPass) -> None:
    other = touched.other(hooks=())
    torch.testing.assert_close(other.logits(), touched.zero_shot.logits)
    assert other.names == touched.names
    assert other.labels is touched.labels
    assert touched.logits().requires_grad, "the pass itself stays as it was"


def test_hooks_of_a_derived_pass_stay_with_those_derived_from_it(touched: ForwardPass) -> None:
    other = touched.other(hooks=()).other(names=NAMES[:2])
    torch.testing.assert_close(other.logits(), touched.zero_shot.logits[:, :2])


def test_a_pass_with_other_classes_answers_for_those(touched: ForwardPass) -> None:
    other = touched.other(names=[NAMES[3], NAMES[0]])
    torch.testing.assert_close(other.logits(), touched.logits()[:, [3, 0]])


def test_a_pass_without_classes_is_not_a_pass_with_all(touched: ForwardPass) -> None:
    assert touched.other(names=()).names == ()


def test_a_pass_with_some_images_keeps_their_labels(touched: ForwardPass) -> None:
    keep = torch.tensor([2, 0])
    other = touched.other(keep=keep)
    assert other.labels.tolist() == [2, 4]
    torch.testing.assert_close(other.logits(), touched.logits()[keep])
    assert touched.other(keep=keep, labels=torch.tensor([1, 1])).labels.tolist() == [1, 1]


def test_a_derived_pass_shares_the_frozen_activations_of_the_images(touched: ForwardPass, blocks: list[str]) -> None:
    touched.image()
    alone = len(blocks)
    touched.other().image()
    assert len(blocks) == alone + 2, "two of three blocks are touched; the first has run"


# -- plugin API 1 -----------------------------------------------------------------------------------------------------


def test_the_old_name_of_the_towers_own_head_still_works_with_a_warning(touched: ForwardPass) -> None:
    with pytest.warns(DeprecationWarning, match="the head 'class' is deprecated; write 'pooled'"):
        assert torch.equal(touched.image("class"), touched.image())
    with pytest.raises(KeyError):
        touched.image("missing")
