"""The random CLIP that the oracles were computed on, rebuilt from its seed.

Every tensor is drawn from one `RandomState`, key by key in sorted order of OpenAI's key names, scaled by what it is,
and rounded to float16; `logit_scale` alone is log(100).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from vlmadapt import Backbone, load_backbone


def shapes(c: dict[str, int]) -> dict[str, tuple[int, ...]]:
    vision, text = c["vision_width"], c["text_width"]
    found: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "positional_embedding": (c["context"], text),
        "text_projection": (text, c["embed"]),
        "token_embedding.weight": (c["vocab"], text),
        "visual.class_embedding": (vision,),
        "visual.conv1.weight": (vision, 3, c["patch"], c["patch"]),
        "visual.positional_embedding": ((c["resolution"] // c["patch"]) ** 2 + 1, vision),
        "visual.proj": (vision, c["embed"]),
    }
    norms = {"ln_final": text, "visual.ln_pre": vision, "visual.ln_post": vision}
    for tower, width, layers in (("", text, c["text_layers"]), ("visual.", vision, c["vision_layers"])):
        for layer in range(layers):
            block = f"{tower}transformer.resblocks.{layer}."
            norms |= {f"{block}ln_1": width, f"{block}ln_2": width}
            linear = {
                "attn.in_proj_": (3 * width, width),
                "attn.out_proj.": (width, width),
                "mlp.c_fc.": (4 * width, width),
                "mlp.c_proj.": (width, 4 * width),
            }
            for name, shape in linear.items():
                found[f"{block}{name}weight"], found[f"{block}{name}bias"] = shape, shape[:1]
    for name, width in norms.items():
        found[f"{name}.weight"] = found[f"{name}.bias"] = (width,)
    return found


def scaled(key: str, noise: np.ndarray) -> np.ndarray:
    if key == "positional_embedding":
        return 0.02 * noise
    if "embedding" in key:
        return 0.05 * noise
    if key in ("visual.proj", "text_projection"):
        return noise * noise.shape[0] ** -0.5
    if key.endswith("bias"):
        return 0.02 * noise
    if noise.ndim == 1:
        return 1 + 0.1 * noise
    return noise * np.prod(noise.shape[1:]) ** -0.5


def weights(seed: int, config: dict[str, int]) -> dict[str, torch.Tensor]:
    rng = np.random.RandomState(seed)
    wanted = shapes(config)
    state = {}
    for key in sorted(wanted):
        if key == "logit_scale":
            state[key] = torch.tensor(np.log(100.0), dtype=torch.float32)
        else:
            value = scaled(key, rng.standard_normal(wanted[key]))
            state[key] = torch.from_numpy(value.astype(np.float16).astype(np.float32))
    return state


def write(folder: Path, settings: dict[str, int]) -> Path:
    """Save the model the way open_clip saves one: a config and weights in a folder."""
    config = {key: value for key, value in settings.items() if key != "seed"}
    model = {
        "embed_dim": config["embed"],
        "quick_gelu": True,
        "vision_cfg": {
            "image_size": config["resolution"],
            "layers": config["vision_layers"],
            "width": config["vision_width"],
            "patch_size": config["patch"],
        },
        "text_cfg": {
            "context_length": config["context"],
            "vocab_size": config["vocab"],
            "width": config["text_width"],
            "heads": config["text_width"] // 64,
            "layers": config["text_layers"],
        },
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    save_file(weights(settings["seed"], config), folder / "open_clip_model.safetensors")
    return folder


def load(folder: Path, settings: dict[str, int]) -> Backbone:
    return load_backbone(str(write(folder, settings)))


def inputs(seed: int, n: int, resolution: int) -> torch.Tensor:
    noise = np.random.RandomState(seed).standard_normal((n, 3, resolution, resolution))
    return torch.from_numpy(noise.astype(np.float32))
