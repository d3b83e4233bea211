"""What the engine leaves out must not matter."""

from __future__ import annotations

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import total, trainable_count
from vlmadapt.testing.checks.compare import same
from vlmadapt.testing.under_test import Subject


def plans_agree(subject: Subject) -> None:
    """Both plans give the same scores, losses and gradients."""
    method = subject.trained.method
    planned, reference = subject.classifier(method), subject.classifier(method, "reference")
    same("scores of the planned and the reference plan", subject.scores(reference), subject.scores(planned))
    if not trainable_count(method):
        return
    expected, found = _loss(subject, reference), _loss(subject, planned)
    same("losses of the planned and the reference plan", expected[0], found[0])
    same("gradients of the planned and the reference plan", expected[1], found[1], 5e-3)


def _loss(subject: Subject, classifier: Classifier) -> tuple[Tensor, Tensor]:
    """Loss and all gradients in a row, in evaluation mode: dropout would draw differently."""
    shots = subject.shots()
    x = classifier.forward(shots.images[:4], shots.names, shots.labels[:4])
    loss = total(classifier.method.losses(x))
    parameters = [p for p in classifier.method.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
    return loss.detach().reshape(1), torch.cat([g.flatten() for g in flat])
