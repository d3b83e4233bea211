"""A minimal trainer that records the first gradients requested and applied."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RecordingTrainer:
    def __init__(self, method: nn.Module, optimizer: torch.optim.Optimizer):
        self.parameters = {name: p for name, p in method.named_parameters() if p.requires_grad}
        self.optimizer = optimizer
        self.lr = torch.tensor(optimizer.param_groups[0]["lr"], dtype=torch.float64)
        self.asked: list[dict[str, Tensor | None]] = []
        self.first: dict[str, Tensor | None] = {}

    def set_lr(self, lr: float) -> None:
        self.lr = torch.tensor(lr, dtype=torch.float64)
        for group in self.optimizer.param_groups:
            group["lr"] = lr

    def backward_and_step(self, loss: Tensor) -> None:
        self.apply(self.gradients(loss))

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        wanted = list(self.parameters.values())
        found: list[Tensor | None] = list(torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True))
        self.asked.append(dict(zip(self.parameters, found, strict=True)))
        return found

    def apply(self, gradients: list[Tensor | None]) -> None:
        if not self.first:
            self.first = {n: None if g is None else g.clone() for n, g in zip(self.parameters, gradients, strict=True)}
        for parameter, gradient in zip(self.parameters.values(), gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
