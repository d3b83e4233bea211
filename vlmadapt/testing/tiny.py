"""A small random CLIP, made in memory from a seed, deep enough for the published settings of all methods."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import cache

import open_clip
import torch
from open_clip.model import set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from torch import Tensor, nn

from vlmadapt.core.backbone import Backbone

DEPTH, WIDTH, JOINT, CONTEXT = 12, 64, 32, 77
IMAGE_SIZE, PATCH = 16, 8
SCALE = 30.0
"""Logit scale: large enough for confident predictions, small enough not to magnify rounding errors."""


@cache
def tiny_clip(seed: int = 0, depth: int = DEPTH) -> Backbone:
    """A CLIP with two towers of `depth` narrow blocks, 16 x 16 pixel images, and CLIP's tokenizer."""
    vision = {"image_size": IMAGE_SIZE, "layers": depth, "width": WIDTH, "patch_size": PATCH, "head_width": WIDTH}
    text = {"context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": 1, "layers": depth}
    with torch.random.fork_rng(devices=[]):
        model = open_clip.CLIP(embed_dim=JOINT, vision_cfg=vision, text_cfg=text, quick_gelu=True)
    set_model_preprocess_cfg(model, asdict(PreprocessCfg(size=IMAGE_SIZE)))
    _randomise(model, torch.Generator().manual_seed(seed))
    return Backbone(f"tiny-random-{seed}", model, open_clip.SimpleTokenizer(context_length=CONTEXT))


@torch.no_grad()
def _randomise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw weights that keep activations near unit size in all blocks, so that every input affects the output."""
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
