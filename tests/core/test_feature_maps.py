"""Image towers on feature maps (ResNet, ConvNeXt, FastViT, Swin): methods outside them run as on any other backbone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import isfinite
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
from vlmadapt import FitSettings, evaluate, fit, load, load_backbone
from vlmadapt.core.backbone.tower import FEATURE_MAPS
from vlmadapt.core.build import build_method
from vlmadapt.core.loading.catalog import list_architectures, methods_without
from vlmadapt.core.method import Task
from vlmadapt.core.side import IMAGE
from vlmadapt.errors import BackboneError

ARCHITECTURES = (
    "convnext_base", "convnext_base_w", "convnext_base_w_320", "convnext_large", "convnext_large_d",
    "convnext_large_d_320", "convnext_small", "convnext_tiny", "convnext_xlarge", "convnext_xxlarge",
    "convnext_xxlarge_320", "MobileCLIP2-S0", "MobileCLIP2-S2", "MobileCLIP2-S3", "MobileCLIP2-S4", "MobileCLIP-S1",
    "MobileCLIP-S2", "RN50", "RN50-quickgelu", "RN50x4", "RN50x4-quickgelu", "RN50x16", "RN50x16-quickgelu", "RN50x64",
    "RN50x64-quickgelu", "RN101", "RN101-quickgelu", "swin_base_patch4_window7_224",
)  # fmt: skip
ONE_OF_EACH = ("RN50", "convnext_large_d", "MobileCLIP2-S3", "swin_base_patch4_window7_224")
WITH_DESCRIPTIONS = ("cupl", "dclip", "timo")
WITHOUT_EPOCHS = ("clip",)
CLASSES = ("axolotl", "jack-o'-lantern", "tabby cat")
OPTIONS: dict[str, dict[str, Any]] = {
    "proda": {"prompts": 4, "batch": 2, "tokens": 2},
    "tip-adapter-f": {"passes": 1},
    "clap": {"passes": 2},
    "gda-unseen": {"passes": 2, "alpha": 10.0, "search": False},
    "waffle": {"pairs": 2},
    "wise-ft": {"wraps": "coop"},
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
    (folder / "descriptions.json").write_text(json.dumps({name: [f"a {name}.", "a thing."] for name in CLASSES}))
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


@pytest.fixture(scope="module")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one backbone of each family."""
    root = tmp_path_factory.mktemp("backbones")
    for name in ONE_OF_EACH:
        saved(name, root / name)
    return root


def fits_saves_loads_and_predicts(name: str, folder: Path, method: str, pictures: Path, out: Path) -> None:
    settings = FitSettings(
        method=method,
        options=OPTIONS.get(method, {}),
        train={} if method in WITHOUT_EPOCHS else {"epochs": 1},
        shots=1,
        workers=0,
        data=str(pictures),
        backbone=str(folder),
        descriptions=str(folder / "descriptions.json") if method in WITH_DESCRIPTIONS else None,
        out=str(out),
    )
    with narrow(name):
        done = fit(settings)
        assert evaluate(done.folder)
        found = list(load(done.folder).predict(sorted((pictures / CLASSES[0]).iterdir()), top=3))
    assert all({label for label, _ in best} == set(CLASSES) for best in found)
    assert all(isfinite(score) for best in found for _, score in best)


@pytest.mark.parametrize(
    ("name", "method"), list(zip(ONE_OF_EACH, ("coop", "clip-adapter", "tip-adapter-f", "taskres"), strict=True))
)
def test_text_and_feature_methods_fit_save_load_and_predict(
    name: str, method: str, backbones: Path, pictures: Path, tmp_path: Path
) -> None:
    fits_saves_loads_and_predicts(name, backbones / name, method, pictures, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(methods_without([IMAGE])))
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_method_outside_the_image_tower_runs(
    name: str, method: str, backbones: Path, pictures: Path, tmp_path: Path
) -> None:
    fits_saves_loads_and_predicts(name, backbones / name, method, pictures, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_on_feature_maps_runs_methods_of_each_kind(
    name: str, pictures: Path, tmp_path: Path
) -> None:
    folder = saved(name, tmp_path / "backbone")
    for method in ("clip", "coop", "tcp", "clip-adapter", "tip-adapter-f", "taskres", "linear-probe"):
        fits_saves_loads_and_predicts(name, folder, method, pictures, tmp_path / method)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_methods_inside_the_image_tower_are_refused_with_the_methods_that_run(name: str, backbones: Path) -> None:
    with narrow(name):
        backbone = load_backbone(str(backbones / name))
    assert backbone.image.family in FEATURE_MAPS
    with pytest.raises(BackboneError) as refused:
        build_method("mmrl", backbone, Task(small.NAMES, ("a photo of a {}.",)))
    sentence = str(refused.value)
    assert f"but this backbone's is a {backbone.image.family}, which has feature maps instead of tokens" in sentence
    named = re.search(r"outside it \(([^)]*)\)", sentence)
    assert named is not None
    assert named[1].split(", ") == list(methods_without([IMAGE]))


@pytest.mark.slow
def test_the_architectures_here_are_those_on_feature_maps() -> None:
    assert {info.name for info in list_architectures() if info.image.on_feature_maps} == set(ARCHITECTURES)
