"""Shared by the training steps: model, optimisers, schedule, depth growth and checkpoints."""

from __future__ import annotations

import copy
import gzip
import json
import os
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CONFIG = Path(__file__).parent.parent / "plugins" / "vlmadapt_tiny" / "open_clip_config.json"
MERGES = 3000


def build_clip(layers: int) -> Any:
    """Return open_clip's CLIP in the shipped architecture, with `layers` blocks in each tower and random weights."""
    import open_clip

    cfg = copy.deepcopy(json.loads(CONFIG.read_text())["model_cfg"])
    cfg["vision_cfg"]["layers"] = cfg["text_cfg"]["layers"] = layers
    return open_clip.CLIP(
        cfg["embed_dim"],
        open_clip.CLIPVisionCfg(**cfg["vision_cfg"]),
        open_clip.CLIPTextCfg(**cfg["text_cfg"]),
        quick_gelu=cfg["quick_gelu"],
    )


def write_merges(target: Path) -> None:
    """Write the first merges of CLIP's byte-pair vocabulary in the format open_clip's SimpleTokenizer reads."""
    data = gzip.decompress((files("open_clip") / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode("utf-8")
    # A trailing newline would be read as an additional empty merge. A fixed mtime keeps the file reproducible.
    text = "\n".join(data.split("\n")[: MERGES + 1])
    target.write_bytes(gzip.compress(text.encode("utf-8"), mtime=0))


def tokenizer(work: Path) -> Callable[[list[str]], Tensor]:
    """Return the shipped backbone's tokenizer, texts -> token ids (N, 32)."""
    from open_clip.tokenizer import SimpleTokenizer

    path = work / "bpe_simple_vocab_3k.txt.gz"
    if not path.exists():
        write_merges(path)
    tokenize: Callable[[list[str]], Tensor] = SimpleTokenizer(bpe_path=str(path), context_length=32)
    return tokenize


def grow(blocks: Any, layers: int) -> nn.ModuleList:
    """Deepen a trained stack without changing its function, by inserting copies with zeroed outputs."""
    copies = layers // len(blocks)
    deep = nn.ModuleList()
    for block in blocks:
        deep.append(block)
        for _ in range(copies - 1):
            extra = copy.deepcopy(block)
            nn.init.zeros_(extra.attn.out_proj.weight)
            nn.init.zeros_(extra.attn.out_proj.bias)
            nn.init.zeros_(extra.mlp.c_proj.weight)
            nn.init.zeros_(extra.mlp.c_proj.bias)
            deep.append(extra)
    return deep


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Bring all singular values of each matrix (B, rows, columns) close to one, by quintic Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Muon optimiser: momentum, then an orthogonalised step. Matrices of equal shape are updated in one batch."""

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # the signature that torch requires
        """Update every matrix."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for p in group["params"]:
                shapes.setdefault(p.shape, []).append(p)
            for shape, ps in shapes.items():
                grads: list[Tensor] = []
                for p in ps:
                    assert p.grad is not None
                    buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                    buffer.lerp_(p.grad, 1 - group["momentum"])
                    grads.append(torch.lerp(p.grad, buffer, group["momentum"]))
                # in_proj stacks the query, key and value matrices; orthogonalise each separately
                parts = 3 if shape[0] == 3 * shape[1] else 1
                stacked = torch.stack(grads).reshape(len(ps) * parts, shape[0] // parts, shape[1])
                scale = max(1.0, stacked.shape[1] / stacked.shape[2]) ** 0.5
                update = orthogonalise(stacked).reshape(len(ps), *shape) * scale
                for p, u in zip(ps, update, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u, alpha=-group["lr"])


def make_optimisers(
    blocks: Any, rest: list[nn.Parameter], muon_lr: float, adam_lr: float
) -> list[torch.optim.Optimizer]:
    """Create Muon for the block matrices, AdamW for biases, norms, embeddings and projections."""
    matrices = [p for p in blocks.parameters() if p.ndim == 2]
    others = [p for p in blocks.parameters() if p.ndim != 2] + rest
    return [Muon(matrices, muon_lr), torch.optim.AdamW(others, adam_lr, betas=(0.9, 0.98), weight_decay=0.01)]


def set_rate(optimisers: list[torch.optim.Optimizer], step: int, total: int, warmup: int = 50) -> None:
    """Set the learning rate of a step: linear warm-up, linear decay to zero at `total`."""
    factor = min(1.0, (step + 1) / warmup) * (1 - step / total)
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * factor


def save(path: Path, state: dict[str, Any]) -> None:
    """Save a checkpoint atomically, so that an interruption leaves the previous one intact."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    os.replace(temporary, path)  # noqa: PTH105
