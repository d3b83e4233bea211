"""Backbones: how they are found and loaded, that they are frozen, and towers that cannot be looked into."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import small
from tests.parity import tiny_clip
from vlmadapt import Backbone, load_backbone
from vlmadapt.core.backbone import image_transformers, text_transformers
from vlmadapt.core.backbone.image_tower import ImageTower
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import load, untrained
from vlmadapt.core.method import Task
from vlmadapt.errors import BackboneError
from vlmadapt.roles import Role

TEMPLATES = ("a photo of a {}.",)
TASK = Task(small.NAMES, TEMPLATES)
ARCHITECTURE = "small-clip-of-these-tests"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip.write(tmp_path_factory.mktemp("clip"), small.SETTINGS)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(str(folder))


@pytest.fixture(scope="module")
def architecture(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The small model as an architecture that open_clip knows by name."""
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    known = tmp_path_factory.mktemp("architectures")
    (known / f"{ARCHITECTURE}.json").write_text(json.dumps(config))
    open_clip.add_model_config(known)
    return ARCHITECTURE


# -- frozen -----------------------------------------------------------------------------------------------------------


def test_no_weight_of_a_backbone_requires_gradients(backbone: Backbone) -> None:
    assert list(backbone.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_a_backbone_is_never_in_training_mode(backbone: Backbone) -> None:
    backbone.train()
    assert not any(module.training for module in backbone.modules())


def test_training_leaves_the_backbone_as_it_was(backbone: Backbone) -> None:
    before = backbone.fingerprint()
    method = build_method("mmrl", backbone, TASK, {"layers": [2, 3], "width": 8})
    x = Classifier(backbone, method, TEMPLATES).forward(tiny_clip.inputs(0, 2, 16), small.NAMES, torch.tensor([0, 1]))
    sum(weight * value for _, weight, value in method.losses(x)).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert backbone.fingerprint() == before


def test_a_backbone_computes_in_full_precision(backbone: Backbone) -> None:
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


# -- fingerprint ------------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_that_of_the_weights(backbone: Backbone, folder: Path) -> None:
    again = load_backbone(str(folder))
    assert again.fingerprint() == backbone.fingerprint()
    with torch.no_grad():
        again.model.text_projection[0, 0] += 1e-3
    assert again.fingerprint() != backbone.fingerprint()


def test_the_fingerprint_does_not_depend_on_the_place(backbone: Backbone, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "moved")
    assert load_backbone(str(tmp_path / "moved")).fingerprint() == backbone.fingerprint()


# -- loading ----------------------------------------------------------------------------------------------------------


def test_an_architecture_takes_its_weights_from_a_safetensors_file(
    backbone: Backbone, architecture: str, folder: Path
) -> None:
    loaded = load_backbone(f"{architecture}:{folder / 'open_clip_model.safetensors'}")
    assert loaded.fingerprint() == backbone.fingerprint()


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_architecture_takes_its_weights_from_a_file_of_torch(
    backbone: Backbone, architecture: str, folder: Path, tmp_path: Path, wrapped: bool
) -> None:
    weights = load_file(folder / "open_clip_model.safetensors")
    torch.save({"state_dict": weights, "epoch": 3} if wrapped else weights, tmp_path / "clip.pt")
    assert load_backbone(f"{architecture}:{tmp_path / 'clip.pt'}").fingerprint() == backbone.fingerprint()


class Anything:
    """What a pickle should not be trusted to make."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("executed"),)


def test_a_pickle_that_runs_code_is_refused_in_a_sentence(
    architecture: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights = load_file(folder / "open_clip_model.safetensors")
    torch.save({"state_dict": weights, "extra": Anything()}, tmp_path / "clip.pt")
    with pytest.raises(
        BackboneError, match=r"clip.pt' cannot be loaded: its file .* holds more than tensors"
    ) as refused:
        load_backbone(f"{architecture}:{tmp_path / 'clip.pt'}")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["clip.safetensors", "clip.pt"])
def test_a_damaged_checkpoint_is_refused_in_a_sentence(architecture: str, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(BackboneError, match="cannot be loaded: ") as refused:
        load_backbone(f"{architecture}:{tmp_path / name}")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_another_architecture_is_refused_in_a_sentence(
    architecture: str, folder: Path, tmp_path: Path
) -> None:
    weights = load_file(folder / "open_clip_model.safetensors")
    weights["text_projection"] = torch.zeros(64, 16)
    save_file(weights, tmp_path / "clip.safetensors")
    with pytest.raises(BackboneError, match="cannot be loaded: ") as refused:
        load_backbone(f"{architecture}:{tmp_path / 'clip.safetensors'}")
    assert "\n" not in str(refused.value)


def test_weights_are_never_random(architecture: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="say which weights"):
        load_backbone(architecture)
    shutil.copy(folder / "open_clip_config.json", tmp_path)
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(tmp_path))


def test_a_folder_that_is_no_saved_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"holds no open_clip_config.json"):
        load_backbone(str(tmp_path))
    (tmp_path / "open_clip_config.json").write_text("{")
    with pytest.raises(BackboneError, match=r"open_clip_config.json' cannot be read"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("spec", ["ViT-B-61", "ViT-B-61:openai", "tyni"])
def test_an_unknown_name_is_reported_with_the_nearest_one(spec: str) -> None:
    nearest = "tiny" if spec == "tyni" else "ViT-B-16"
    with pytest.raises(BackboneError, match=f"unknown backbone '.*'. Did you mean '{nearest}'"):
        load_backbone(spec)


def test_loading_says_nothing(
    folder: Path, capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    load_backbone(str(folder))
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert logging.root.manager.disable == logging.NOTSET


def test_a_backbone_without_weights_has_the_right_shape() -> None:
    backbone = untrained("ViT-B-32")
    assert backbone.device.type == "meta"
    assert (backbone.image.width, backbone.image.depth, backbone.text.width, backbone.text.depth) == (768, 12, 512, 12)


# -- towers -----------------------------------------------------------------------------------------------------------


def test_towers_tell_their_geometry(backbone: Backbone) -> None:
    image, text = backbone.image, backbone.text
    assert (image.width, image.joint, image.depth, image.sequence_length, image.size) == (64, 32, 3, 5, (16, 16))
    assert (text.width, text.joint, text.depth, text.context, text.causal) == (64, 32, 3, 40, True)


def test_towers_give_what_open_clip_gives(backbone: Backbone) -> None:
    method = build_method("clip", backbone, TASK)
    images = tiny_clip.inputs(0, 3, 16)
    x = Classifier(backbone, method, TEMPLATES).forward(images, ("cat", "dog"))
    ids = backbone.text.tokenize(["a photo of a cat.", "a photo of a dog."])
    with torch.no_grad():
        expected = backbone.model.get_logits(images, ids)[0]
        torch.testing.assert_close(method.route(x, Role.SEEN), expected, rtol=1e-5, atol=1e-4)


def test_a_tower_that_is_misunderstood_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageTower, "norm", lambda self, tokens: tokens)
    with pytest.raises(BackboneError, match="does not give what the model itself gives"):
        load_backbone(str(folder))


@pytest.fixture
def opaque(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Backbone:
    """The same model with blocks of an unsupported class."""
    for module in (text_transformers, image_transformers):
        monkeypatch.setattr(module, "views", lambda blocks: None)
    return load_backbone(str(folder))


def test_a_tower_with_unknown_blocks_has_none_but_still_encodes(opaque: Backbone, backbone: Backbone) -> None:
    assert opaque.image.blocks == opaque.text.blocks == ()
    images, ids = tiny_clip.inputs(0, 2, 16), backbone.text.tokenize(["a cat"])
    with torch.no_grad():
        assert torch.equal(opaque.image.encode(images), backbone.image.encode(images))
        assert torch.equal(opaque.text.encode(ids), backbone.text.encode(ids))
    assert (opaque.image.joint, opaque.text.joint) == (32, 32)


def test_a_method_that_touches_nothing_runs_on_opaque_towers(opaque: Backbone, backbone: Backbone) -> None:
    images = tiny_clip.inputs(0, 3, 16)
    for name, options in (("clip", {}), ("clip", {"ensemble": True})):
        scores = [
            Classifier(b, build_method(name, b, TASK, options), TEMPLATES).scores(images, small.NAMES, Role.SEEN)
            for b in (opaque, backbone)
        ]
        torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["coop", "maple", "mmrl", "mmrl++"])
def test_a_method_that_touches_an_opaque_tower_is_refused(opaque: Backbone, name: str) -> None:
    with pytest.raises(
        BackboneError, match=r"works inside the text tower, but this backbone's is a CLIP, of which only"
    ):
        build_method(name, opaque, TASK)


@pytest.mark.parametrize(
    ("architecture", "tag", "part"),
    [
        ("ViT-B-16-SigLIP", "webli", "tokenizer"),
        ("xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k", "text tower"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(
    architecture: str, tag: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "find_spec", lambda name: None)
    message = rf"the {part} of '{architecture}.*' comes from .* `pip install 'vlmadapt\[transformers\]'`"
    with pytest.raises(BackboneError, match=message):
        load_backbone(f"{architecture}:{tag}")
    with pytest.raises(BackboneError, match=message):
        untrained(architecture)
