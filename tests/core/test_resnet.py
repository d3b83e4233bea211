"""ResNet image towers: methods that stay outside them run, the others are refused with a sentence."""

from __future__ import annotations

import json
import re

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests import small
from vlmadapt import Backbone, VlmadaptError, load_backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task, total
from vlmadapt.roles import SEEN

TASK = Task(small.NAMES, ("a photo of a {}.",))
OUTSIDE = ["clip", "coop", "cocoop", "kgcoop", "prograd", "proda", "tcp", "clip-adapter"]
INSIDE = [
    "maple",
    "promptsrc",
    "provp",
    "metaprompt",
    "rpo",
    "plot",
    "plot++",
    "mmrl",
    "mmrl++",
    "mma",
    "clip-lora",
    "2sfs",
    "mail",
]


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("resnet")
    config = {
        "embed_dim": 32,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 12},
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    return load_backbone(str(folder))


@pytest.mark.parametrize("name", OUTSIDE)
def test_methods_outside_the_image_tower_train(resnet: Backbone, name: str) -> None:
    torch.manual_seed(0)
    method = build_method(name, resnet, TASK)
    classifier = Classifier(resnet, method, TASK.templates)
    images = torch.randn(2, 3, 64, 64)
    x = classifier.forward(images, small.NAMES, torch.tensor([0, 3]))
    assert torch.allclose(x.zero_shot.image, torch.nn.functional.normalize(resnet.model.encode_image(images), dim=-1))
    terms = list(method.losses(x))
    if name != "clip":
        total(terms).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    assert classifier.scores(images, ("dog", "cat", "cow"), SEEN).shape == (2, 3)


@pytest.mark.parametrize("name", INSIDE)
def test_methods_inside_the_image_tower_are_refused(resnet: Backbone, name: str) -> None:
    with pytest.raises(VlmadaptError, match=r"image tower.*ModifiedResNet") as refused:
        Classifier(resnet, build_method(name, resnet, TASK), TASK.templates)
    named = set(re.search(r"outside it \(([^)]*)\)", str(refused.value))[1].split(", "))  # type: ignore[index]
    assert named >= set(OUTSIDE), "the refusal names the methods that run"
    assert not named & set(INSIDE)
