"""Check the engine's optimisations against the reference."""

from __future__ import annotations

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import total, trainable_count
from vlmadapt.testing.checks.compare import same
from vlmadapt.testing.under_test import MethodUnderTest


def plans_agree(tested: MethodUnderTest) -> None:
    """The planned and the reference computation give the same scores, losses and gradients."""
    method = tested.trained.method
    planned, reference = tested.classifier(method), tested.classifier(method, "reference")
    same("scores of the planned and the reference plan", tested.scores(reference), tested.scores(planned))
    if not trainable_count(method):
        return
    expected, found = _loss(tested, reference), _loss(tested, planned)
    same("losses of the planned and the reference plan", expected[0], found[0])
    same("gradients of the planned and the reference plan", expected[1], found[1], 5e-3)


def _loss(tested: MethodUnderTest, classifier: Classifier) -> tuple[Tensor, Tensor]:
    """Loss (1,) and all gradients concatenated, in evaluation mode, since dropout would draw differently."""
    shots = tested.shots()
    fwd = classifier.forward(shots.images[:4], shots.names, shots.labels[:4])
    with torch.random.fork_rng():
        torch.manual_seed(0)  # what the method draws itself is the same
        loss = total(classifier.method.losses(fwd))
    parameters = [p for p in classifier.method.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return loss.detach().reshape(1), torch.cat([g.flatten() for g in flat])
