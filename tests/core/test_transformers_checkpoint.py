"""Checkpoints of transformers: the model's own numbers, its own preprocessing, and what is refused in a sentence."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers")

from tests import small  # noqa: E402
from tests.core import transformers_families as families  # noqa: E402
from tests.core import transformers_folders as folders  # noqa: E402
from tests.data.pictures import class_folder  # noqa: E402
from vlmadapt import FitSettings, evaluate, fit, load, load_backbone  # noqa: E402
from vlmadapt.core.build import build_method  # noqa: E402
from vlmadapt.core.classifier import Classifier  # noqa: E402
from vlmadapt.core.loading import transformers_checkpoint, untrained  # noqa: E402
from vlmadapt.core.method import Task  # noqa: E402
from vlmadapt.data.transforms import test_transform as transform_for_tests  # noqa: E402
from vlmadapt.errors import BackboneError, VlmadaptWarning  # noqa: E402

TEMPLATES = ("a photo of a {}.",)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of each kind."""
    root = tmp_path_factory.mktemp("checkpoints")
    for kind in folders.KINDS:
        folders.save(kind, root / kind)
    return root


@pytest.fixture
def clip(saved: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(saved / "clip", tmp_path / "clip"))


def images(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 3, families.SIZE, families.SIZE, generator=torch.Generator().manual_seed(1))


def refusal(spec: str | Path) -> str:
    with pytest.raises(BackboneError) as refused:
        load_backbone(str(spec))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("kind", folders.KINDS)
def test_logits_are_those_of_transformers(saved: Path, kind: str) -> None:
    """With the model and the tokenizer as transformers itself finds them: activation, scale, bias and mask included."""
    backbone = load_backbone(str(saved / kind))
    assert (backbone.image.depth, backbone.text.depth) == (families.DEPTH, families.DEPTH)
    method = build_method("clip", backbone, Task(small.NAMES, TEMPLATES))
    found = Classifier(backbone, method, TEMPLATES).forward(images(), small.NAMES).logits()
    model = transformers.AutoModel.from_pretrained(saved / kind).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved / kind)
    texts = [TEMPLATES[0].format(name.replace("_", " ")) for name in small.NAMES]
    given = tokenizer(texts, padding="max_length", return_tensors="pt")
    mask = None if kind.startswith("siglip") else given["attention_mask"]
    pixels = naflex_inputs(images()) if kind == "siglip2" else {"pixel_values": images()}
    with torch.no_grad():
        expected = model(input_ids=given["input_ids"], attention_mask=mask, **pixels).logits_per_image
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 1e-3, "images and classes differ"
    assert (backbone.bias is not None) == kind.startswith("siglip")


def naflex_inputs(pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Square images as the processor of SigLIP 2 NaFlex gives them to its model."""
    side = families.SIZE // 8
    corners = [(8 * row, 8 * column) for row in range(side) for column in range(side)]
    cut = [pixels[:, :, top : top + 8, left : left + 8].permute(0, 2, 3, 1).flatten(1) for top, left in corners]
    patches = torch.stack(cut, dim=1)
    shapes = torch.tensor([[side, side]] * len(pixels))
    return {"pixel_values": patches, "pixel_attention_mask": torch.ones(patches.shape[:2]), "spatial_shapes": shapes}


@pytest.mark.parametrize("kind", folders.KINDS)
def test_images_are_prepared_as_the_checkpoint_says(saved: Path, kind: str) -> None:
    found = transform_for_tests(load_backbone(str(saved / kind)).preprocess_config)
    expected = transformers.AutoImageProcessor.from_pretrained(saved / kind)
    noise = np.random.default_rng(0).integers(0, 255, (families.SIZE, families.SIZE, 3), np.uint8)
    height = 40 if kind == "siglip2" else 30  # it would make other patches of an image that is not square
    smooth = np.linspace(0, 255, height * 40 * 3).reshape(height, 40, 3).astype(np.uint8)
    # Both resize with an antialiased filter, one of them on bytes: up to two steps of 255.
    for pixels, steps in ((noise, 1e-3), (smooth, 2.0)):
        image = Image.fromarray(pixels)
        tensor = torch.as_tensor(np.asarray(expected(image)["pixel_values"][0]))
        ours = naflex_inputs(found(image)[None])["pixel_values"][0] if kind == "siglip2" else found(image)
        torch.testing.assert_close(ours, tensor, rtol=0, atol=steps / 255 / 0.25)


def test_a_checkpoint_of_the_hub_is_one_in_a_folder(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def whole(repository: str, **which: Any) -> str:
        asked.append(repository)
        assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in which["allow_patterns"])
        return str(saved / repository.split("/")[1])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file: saved / "siglip" / file)
    monkeypatch.setattr("huggingface_hub.snapshot_download", whole)
    backbone = load_backbone("hf:someone/siglip")
    assert (backbone.name, asked) == ("hf:someone/siglip", ["someone/siglip"])
    assert backbone.fingerprint() == load_backbone(str(saved / "siglip")).fingerprint()


def test_naflex_says_that_images_become_squares_and_refuses_other_numbers_of_patches(
    saved: Path, tmp_path: Path
) -> None:
    with pytest.warns(VlmadaptWarning, match=r"takes images of any shape \(NaFlex\); here all are resized to 16 x 16"):
        load_backbone(str(saved / "siglip2"))
    folder = Path(shutil.copytree(saved / "siglip2", tmp_path / "siglip2"))
    for changes in ({"max_num_patches": 9}, {"patch_size": 4}):
        rewrite(folder / "preprocessor_config.json", **{"patch_size": 8, "max_num_patches": 4, **changes})
        assert "takes 16 x 16 pixels in a way that is not supported: patch_size " in refusal(folder)


def test_another_kind_is_refused_before_its_weights_are_downloaded(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "is a checkpoint of type 'blip', which cannot be loaded; those that can are clip, siglip, siglip2, altclip"
    rewrite(clip / "config.json", model_type="blip")
    assert said in refusal(clip)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repository, file: clip / file)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: pytest.fail("weights were downloaded"))
    assert said in refusal("hf:someone/model")


def test_a_missing_package_is_named_with_what_to_install(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_checkpoint, "find_spec", lambda name: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *_: pytest.fail("something was downloaded"))
    for spec in (str(clip), "hf:someone/clip"):
        assert "install it with `pip install 'vlmadapt[transformers]'`" in refusal(spec)


def test_weights_are_read_from_safetensors_alone(clip: Path) -> None:
    weights = load_file(clip / "model.safetensors")
    (clip / "model.safetensors").unlink()
    torch.save(weights, clip / "pytorch_model.bin")
    assert "has no weights as safetensors" in refusal(clip)


def test_weights_are_never_random(clip: Path) -> None:
    weights = load_file(clip / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    assert "lacks weights, or has some of another shape: visual_projection.weight" in refusal(clip)
    weights["visual_projection.weight"] = torch.zeros(32, 8)
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    assert "visual_projection.weight" in refusal(clip)


def test_quantised_weights_are_refused(clip: Path) -> None:
    rewrite(clip / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert "has quantised weights (`quantization_config` in config.json)" in refusal(clip)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "preprocessor_config.json"])
def test_code_of_a_checkpoint_is_never_run(clip: Path, file: str) -> None:
    rewrite(clip / file, auto_map={"AutoModel": "theirs.Theirs", "AutoTokenizer": ["theirs.Theirs", None]})
    (clip / "theirs.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    assert f"comes with code of its own (`auto_map` in {file}), which is never run" in refusal(clip)
    assert not (clip / "ran").exists()
    assert "theirs" not in sys.modules


@pytest.mark.parametrize("changes", [
    {"size": {"shortest_edge": families.SIZE + 4}},
    {"size": {"height": 8, "width": 8}, "crop_size": {"height": 8, "width": 8}},
    {"do_center_crop": False},
    {"do_normalize": False},
    {"rescale_factor": 1.0},
    {"resample": 0},
])  # fmt: skip
def test_preprocessing_that_cannot_be_repeated_is_refused(clip: Path, changes: dict[str, Any]) -> None:
    rewrite(clip / "preprocessor_config.json", **changes)
    assert f"takes {families.SIZE} x {families.SIZE} pixels in a way that is not supported: size " in refusal(clip)


def test_a_tokenizer_that_pads_otherwise_is_refused(saved: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved / "altclip", tmp_path / "altclip"))
    rewrite(folder / "tokenizer_config.json", padding_side="left")
    assert "does not pad texts at their end" in refusal(folder)
    rewrite(folder / "tokenizer_config.json", padding_side="right", pad_token="[UNK]")
    assert "pads texts with the id 3, but its text tower leaves 1 out" in refusal(folder)


# -- text towers of transformers in models of open_clip ---------------------------------------------------------------


@pytest.fixture(scope="module")
def xlm_r(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.save_open_clip(tmp_path_factory.mktemp("open_clip") / "xlm-r")


def test_an_open_clip_model_with_xlm_r_opens(xlm_r: Path) -> None:
    backbone = load_backbone(str(xlm_r))
    assert (backbone.text.family, backbone.text.depth, backbone.text.pooled) == ("XLMRobertaModel", 3, ("words",))
    texts = ["a photo of a cat.", "a dog"]
    ids = open_clip.get_tokenizer(f"local-dir:{xlm_r}")(texts)
    assert torch.equal(backbone.text.tokenize(texts), ids)


def test_a_text_tower_with_code_of_its_own_is_refused_without_a_question(
    xlm_r: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("asked whether to run the code"))
    folder = Path(shutil.copytree(xlm_r, tmp_path / "xlm-r"))
    rewrite(folder / "text" / "config.json", model_type="theirs", auto_map={"AutoConfig": "theirs.Theirs"})
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = str(folder / "text")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "text" / "theirs.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    assert "cannot be loaded" in refusal(folder)
    assert not (folder / "text" / "ran").exists()


def test_a_hub_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect.\nCheck your internet connection.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", offline)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    assert "cannot be loaded: We couldn't connect. Check" in refusal("hf:openai/clip-vit-base-patch32")
    with pytest.raises(BackboneError, match=r"cannot be loaded: We couldn't connect\. Check"):
        untrained("xlm-roberta-base-ViT-B-32")


@pytest.mark.parametrize("kind", ["xlm-r", *(pytest.param(kind, marks=pytest.mark.slow) for kind in folders.KINDS)])
def test_mmrlpp_runs_end_to_end(saved: Path, xlm_r: Path, kind: str, tmp_path: Path) -> None:
    for name in ("red cat", "blue_dog", "boeing-737"):
        class_folder(tmp_path / "pictures" / name, 4)
    settings = FitSettings(
        method="mmrl++",
        options={"layers": [2, 3], "width": 8},
        train={"epochs": 2, "batch_size": 2},
        shots=2,
        workers=0,
        data=str(tmp_path / "pictures"),
        backbone=str(xlm_r if kind == "xlm-r" else saved / kind),
        out=str(tmp_path / "run"),
    )
    done = fit(settings)
    assert evaluate(done.folder)
    files = sorted((tmp_path / "pictures" / "red cat").iterdir())
    found = list(load(done.folder).predict(files, top=3))
    assert {name for best in found for name, _ in best} == {"red cat", "blue_dog", "boeing-737"}
