"""Entropic optimal transport between two small sets of features."""

from __future__ import annotations

import torch
from torch import Tensor

from vlmadapt.core.host_reads import reads_are_free


@torch.no_grad()
def sinkhorn(similarity: Tensor, eps: float = 0.1, rounds: int = 100, tolerance: float = 0.01) -> Tensor:
    """Transport plans between sets with uniform weights at the cost 1 - similarity, without gradient.

    With K = exp(-(1 - S) / eps), u = 1/M and v = 1/N, repeat r = u / (K c), c = v / (K^T r) from ones; the plan is
    diag(r) K diag(c). As in PLOT's code all pairs stop together, once r moves by less than `tolerance` on average over
    all of them, so that a plan depends slightly on the batch it is computed in.

    Args:
        similarity: (..., M, N) cosines.
        eps: weight of the entropy; smaller plans are sharper.
        rounds: maximum number of rounds.
        tolerance: mean absolute change of r at which the rounds end.

    Returns:
        (..., M, N), in the precision of `similarity` or float32, whichever is finer.
    """
    kernel = torch.exp((similarity.detach().to(torch.promote_types(similarity.dtype, torch.float32)) - 1) / eps)
    # Reading whether to stop saves rounds on the CPU; elsewhere the host would wait for the device in each of them.
    rows, columns = _scale(kernel, rounds, tolerance, stop_early=reads_are_free(kernel.device))
    return rows[..., :, None] * kernel * columns[..., None, :]


def _scale(kernel: Tensor, rounds: int, tolerance: float, *, stop_early: bool) -> tuple[Tensor, Tensor]:
    """The scalings r (..., M) and c (..., N); with or without stopping early, they do not move after the last round."""
    m, n = kernel.shape[-2:]
    rows, columns = kernel.new_ones(kernel.shape[:-1]), kernel.new_ones(*kernel.shape[:-2], n)
    moving = torch.ones((), dtype=torch.bool, device=kernel.device)
    for _ in range(rounds):
        new_rows = 1 / (m * (kernel * columns[..., None, :]).sum(-1))
        new_columns = 1 / (n * (kernel * new_rows[..., :, None]).sum(-2))
        still = (new_rows - rows).abs().mean() >= tolerance
        rows, columns = torch.where(moving, new_rows, rows), torch.where(moving, new_columns, columns)
        moving = moving & still
        if stop_early and not moving:
            break
    return rows, columns
