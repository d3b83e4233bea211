"""A small random CLIP, made in memory from a seed, deep enough for published settings."""

from __future__ import annotations

import math
from functools import cache

import open_clip
import torch
from torch import Tensor, nn

from vlmadapt.core.backbone import Backbone

DEPTH, WIDTH, JOINT, CONTEXT = 12, 64, 32, 77
IMAGE_SIZE, PATCH = 16, 8
SCALE = 30.0
"""Its logit scale: large enough for confident answers, small enough that rounding is not magnified."""


@cache
def tiny_clip(seed: int = 0, depth: int = DEPTH) -> Backbone:
    """Two towers of `depth` thin blocks, images of 16 x 16 pixels, CLIP's own tokenizer; the same for the same seed."""
    vision = {"image_size": IMAGE_SIZE, "layers": depth, "width": WIDTH, "patch_size": PATCH, "head_width": WIDTH}
    text = {"context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": 1, "layers": depth}
    with torch.random.fork_rng(devices=[]):
        model = open_clip.CLIP(embed_dim=JOINT, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    _randomise(model, torch.Generator().manual_seed(seed))
    return Backbone(f"tiny-random-{seed}", model, open_clip.SimpleTokenizer(context_length=CONTEXT))


@torch.no_grad()
def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Weights that keep activations near unit size through all blocks, so that every input matters at the output."""
    for name, parameter in sorted(model.named_parameters()):
        if name == "logit_scale":
            parameter.fill_(math.log(SCALE))
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.copy_(_scaled(name, noise))


def _scaled(name: str, noise: Tensor) -> Tensor:
    if "embedding" in name:
        return 0.3 * noise
    if name.endswith("bias"):
        return 0.02 * noise
    if noise.ndim < 2:  # norms
        return 1 + 0.1 * noise
    fan_in = noise.shape[0] if "proj" in name.rpartition(".")[2] and "in_proj" not in name else noise[0].numel()
    return noise * fan_in**-0.5
