"""Text features of the frozen tower: how several templates are averaged, and what is computed again."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint as torch_checkpoint

from tests import small
from tests.core.hook_shapes import Synthetic, first_in_both
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone
from vlmadapt.core import encode_text
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import Teacher
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.side import TEXT
from vlmadapt.core.templates import Template

TEXTS = ("a photo of a {}.", "{}", "a drawing of one {} in the rain.")
TEMPLATES = tuple(Template.parse(text) for text in TEXTS)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip")).double()


def encoded(backbone: Backbone, text: str) -> Tensor:
    """Unnormalised features of the classes by open_clip itself."""
    return backbone.model.encode_text(
        backbone.text.tokenize([text.replace("{}", n.replace("_", " ")) for n in small.NAMES])
    )


@pytest.mark.parametrize("plan", ["planned", "reference"])
def test_features_of_templates_are_averaged_with_and_without_normalising_each(backbone: Backbone, plan: str) -> None:
    encoder = Engine(backbone, Optimizations.named(plan)).text
    raw = torch.stack([encoded(backbone, text) for text in TEXTS])
    ensemble = encoder.encode_zero_shot(small.NAMES, Teacher(TEMPLATES, normalize_each=True))
    plain = encoder.encode_zero_shot(small.NAMES, Teacher(TEMPLATES, normalize_each=False))
    torch.testing.assert_close(ensemble, F.normalize(F.normalize(raw, dim=-1).mean(0), dim=-1))
    torch.testing.assert_close(plain, F.normalize(raw.mean(0), dim=-1))
    assert not torch.allclose(ensemble, plain)


def test_frozen_features_are_computed_once_for_a_class_list(backbone: Backbone) -> None:
    encoder, teacher = Engine(backbone).text, Teacher(TEMPLATES, normalize_each=True)
    kept = encoder.encode_zero_shot(small.NAMES, teacher)
    assert encoder.encode_zero_shot(small.NAMES, teacher) is kept
    other = encoder.encode_zero_shot(small.NAMES[::-1], teacher)
    torch.testing.assert_close(other, kept.flip(0))


def test_activations_of_chunks_are_computed_again_in_the_backward_pass(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what bounds memory; without gradients nothing has to be."""
    used: list[int] = []

    def checkpoint(function, low, high, rows, **options):  # type: ignore[no-untyped-def]
        assert isinstance(rows, Tensor), "torch keeps the random state of devices that it is given tensors of"
        assert options["preserve_rng_state"]
        used.append(high - low)
        return torch_checkpoint(function, low, high, rows, **options)

    monkeypatch.setattr(encode_text, "checkpoint", checkpoint)
    method = Synthetic(backbone, first_in_both)
    for chunk, expected in ((2, [2, 2, 1]), (0, [])):
        used.clear()
        engine = Engine(backbone, class_chunk=chunk)
        fwd = ForwardPass(engine, method, small.NAMES, TEMPLATES[:1], inputs(1, 2, 16).double())
        fwd.features(TEXT)
        assert used == expected
        with torch.no_grad():
            fwd.other().features(TEXT)
        assert used == expected


@pytest.mark.parametrize(("classes", "shared"), [(1, False), (2, True), (5, True)])
def test_classes_are_shared_out_where_each_process_gets_one(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch, classes: int, shared: bool
) -> None:
    for name, value in (("many_processes", True), ("world_size", 2)):
        monkeypatch.setattr(encode_text, name, lambda value=value: value)
    engine, method = Engine(backbone), Synthetic(backbone, first_in_both)
    fwd = ForwardPass(engine, method, small.NAMES[:classes], TEMPLATES[:1], inputs(1, 2, 16).double())
    assert engine.text._shares_classes(classes, fwd.plan) is shared
    with torch.no_grad():
        assert not engine.text._shares_classes(classes, fwd.plan), "without gradients each encodes all"
    reference = Engine(backbone, Optimizations.named("planned-share-classes"))
    assert not reference.text._shares_classes(classes, fwd.plan)
