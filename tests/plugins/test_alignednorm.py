"""AlignedNorm: MMRL++ with two norm terms and one way to answer."""

from __future__ import annotations

import pytest
import torch

from vlmadapt.core.method import total
from vlmadapt.plugin import IMAGE, SEEN, UNKNOWN, UNSEEN, DataError
from vlmadapt.testing import MethodUnderTest

SMALL = {"layers": [11, 12], "tokens": 2, "width": 16}


def test_without_norm_terms_its_loss_is_that_of_mmrlpp() -> None:
    ours = MethodUnderTest("alignednorm", {**SMALL, "final_norm": 0.0, "sequence_norm": 0.0})
    theirs = MethodUnderTest("mmrl++", SMALL)
    shots = ours.shots()
    losses = [
        total(tested.classifier(tested.build()).method.losses(
            tested.classifier(tested.build()).forward(shots.images, shots.names, shots.labels)
        ))
        for tested in (ours, theirs)
    ]  # fmt: skip
    torch.testing.assert_close(*losses)


def test_the_norm_terms_are_those_of_the_docstring() -> None:
    tested = MethodUnderTest("alignednorm", SMALL)
    method, shots = tested.build(), tested.shots()
    fwd = tested.classifier(method).forward(shots.images[:3], shots.names, shots.labels[:3])
    lengths = fwd.features(IMAGE, "representation").norm(dim=-1), fwd.features(IMAGE).norm(dim=-1)
    torch.testing.assert_close(method.final_distance(fwd), (lengths[0] - lengths[1]).abs().mean())
    distances = []
    for layer in (10, 11):
        class_token = fwd.features(IMAGE, f"class {layer}")[:, 0].norm(dim=-1).mean()
        for k in range(2):
            token = fwd.features(IMAGE, f"tokens {layer}")[:, k].norm(dim=-1).mean()
            distances.append((token - class_token).abs())
    torch.testing.assert_close(method.sequence_distance(fwd), torch.stack(distances).mean())


def test_the_class_tokens_length_is_a_target() -> None:
    """No gradient goes through it: only the representation tokens are to become as long."""
    tested = MethodUnderTest("alignednorm", SMALL)
    method, shots = tested.build(), tested.shots()
    fwd = tested.classifier(method).forward(shots.images[:3], shots.names, shots.labels[:3])
    pooled = fwd.features(IMAGE)
    assert pooled.requires_grad
    (gradient,) = torch.autograd.grad(method.final_distance(fwd), pooled, allow_unused=True, retain_graph=True)
    assert gradient is None


def test_all_classes_are_answered_in_one_way() -> None:
    tested = MethodUnderTest("alignednorm", SMALL)
    scores = [tested.scores(tested.trained, role=role) for role in (SEEN, UNSEEN, UNKNOWN)]
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_it_needs_image_tokens() -> None:
    with pytest.raises(DataError, match="nothing to align"):
        MethodUnderTest("alignednorm", {**SMALL, "image_tokens": False}).build()
