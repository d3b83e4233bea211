"""Image towers on feature maps (ResNet, ConvNeXt, FastViT, Swin): methods outside them run as on any other backbone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import pytest
import timm
import torch
from safetensors.torch import save_file

from tests import small
from tests.data.pictures import class_folder
from vlmadapt import FitSettings, VlmadaptError, evaluate, fit, load, load_backbone
from vlmadapt.core.backbone.tower import FEATURE_MAPS
from vlmadapt.core.build import build_method
from vlmadapt.core.loading.catalog import methods_without
from vlmadapt.core.method import Task
from vlmadapt.core.side import IMAGE

ARCHITECTURES = (
    "convnext_base", "convnext_base_w", "convnext_base_w_320", "convnext_large", "convnext_large_d",
    "convnext_large_d_320", "convnext_small", "convnext_tiny", "convnext_xlarge", "convnext_xxlarge",
    "convnext_xxlarge_320", "MobileCLIP2-S0", "MobileCLIP2-S2", "MobileCLIP2-S3", "MobileCLIP2-S4", "MobileCLIP-S1",
    "MobileCLIP-S2", "RN50", "RN50-quickgelu", "RN50x4", "RN50x4-quickgelu", "RN50x16", "RN50x16-quickgelu", "RN50x64",
    "RN50x64-quickgelu", "RN101", "RN101-quickgelu", "swin_base_patch4_window7_224",
)  # fmt: skip
ONE_OF_EACH = ("RN50", "convnext_large_d", "MobileCLIP2-S3", "swin_base_patch4_window7_224")
CLASSES = ("axolotl", "jack-o'-lantern", "tabby cat")
OPTIONS: dict[str, dict[str, Any]] = {
    "proda": {"prompts": 4, "batch": 2, "tokens": 2},
    "tip-adapter-f": {"passes": 1},
    "clap": {"passes": 2},
    "gda-unseen": {"passes": 2, "alpha": 10.0, "search": False},
    "waffle": {"pairs": 2},
    "wise-ft": {"method": "coop"},
}
"""What keeps methods short that go through many passes, prompts or texts."""
SHRUNK: dict[str, dict[str, Any]] = {
    "convnext": {"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)},
    "fastvit": {"embed_dims": (8, 16, 32, 32, 64)},
    "swin": {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2)},
}
"""The smallest geometry of timm's models that keeps their stages; a ResNet keeps its blocks and loses width."""


@contextmanager
def narrow(name: str) -> Iterator[None]:
    """Make timm's models small in here, as long as an architecture is created or loaded."""
    model = open_clip.get_model_config(name)["vision_cfg"].get("timm_model_name", "")
    changes = next((given for kind, given in SHRUNK.items() if model.startswith(kind)), {})
    if model.startswith("fastvit"):
        stages = len(timm.create_model(model, num_classes=0, embed_dims=changes["embed_dims"]).stages)
        changes = {"embed_dims": changes["embed_dims"][:stages], "layers": (1,) * stages}
    with mock.patch("open_clip.timm_model.timm.create_model", partial(timm.create_model, **changes)):
        yield


def saved(name: str, folder: Path) -> Path:
    """A narrow architecture with random weights, in a folder that `load_backbone` reads."""
    config = open_clip.get_model_config(name)
    size = 224 if name.startswith("swin") else 64
    config["embed_dim"] = 32
    config["vision_cfg"] |= {"image_size": size} | ({"width": 2} if "layers" in config["vision_cfg"] else {})
    config["text_cfg"] |= {"width": 64, "heads": 1, "layers": 9, "context_length": 40}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    with narrow(name):
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for name in CLASSES:
        class_folder(root / name, 4)
    return root


def fits_saves_loads_and_predicts(folder: Path, method: str, pictures: Path, out: Path) -> None:
    settings = FitSettings(
        method=method,
        options=OPTIONS.get(method, {}),
        train={},
        shots=2,
        workers=0,
        data=str(pictures),
        backbone=str(folder),
        out=str(out),
    )
    done = fit(settings)
    assert evaluate(done.folder)
    found = list(load(done.folder).predict(sorted((pictures / CLASSES[0]).iterdir()), top=3))
    assert all({name for name, _ in best} == set(CLASSES) for best in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_x(name, pictures, tmp_path):
    import time
    t=time.time()
    folder = saved(name, tmp_path / "backbone")
    print(name, time.time()-t)
    with narrow(name):
        b=load_backbone(str(folder))
        print(b.image.family, b.text.depth, sum(p.numel() for p in b.parameters()))
        x=torch.randn(3,3,*b.image.size)
        print(b.image.encode(x).std(0).mean(), b.image.encode(x).std())
        for m in ("coop","tip-adapter-f"):
            t=time.time()
            fits_saves_loads_and_predicts(folder, m, pictures, tmp_path/m)
            print(m, time.time()-t)
