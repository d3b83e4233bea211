"""Architectures of open_clip: which towers open, which methods run, and that those that open are exact."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import pytest
import timm
import torch

from vlmadapt import Backbone
from vlmadapt.core.loading import catalog
from vlmadapt.core.loading.catalog import architecture_info, list_architectures
from vlmadapt.core.loading.check import check_towers
from vlmadapt.core.side import TEXT
from vlmadapt.errors import BackboneError

FEATURE_MAPS = ("convnext", "RN", "MobileCLIP2-S", "MobileCLIP-S", "swin")


@pytest.mark.parametrize(
    ("name", "image", "text", "joint"),
    [
        ("ViT-B-16", ("VisionTransformer", 12, 768), ("CLIP", 12, 512), 512),
        ("ViT-SO400M-14-SigLIP", ("VisionTransformer", 27, 1152), ("TextTransformer", 27, 1152), 1152),
        ("EVA02-B-16", ("Eva", 12, 768), ("TextTransformer", 12, 512), 512),
        ("RN50", ("ModifiedResNet", 0, 0), ("CLIP", 12, 512), 1024),
        ("xlm-roberta-base-ViT-B-32", ("VisionTransformer", 12, 768), ("XLMRobertaModel", 12, 768), 512),
        ("mt5-base-ViT-B-32", ("VisionTransformer", 12, 768), ("MT5Stack", 12, 768), 512),
    ],
)
def test_an_architecture_tells_its_towers(
    name: str, image: tuple[str, int, int], text: tuple[str, int, int], joint: int
) -> None:
    info = architecture_info(name)
    assert (info.image.family, info.image.depth, info.image.width) == image
    assert (info.text.family, info.text.depth, info.text.width) == text
    assert info.joint == joint
    assert info.opens == bool(image[1] and text[1])


def test_methods_run_where_the_towers_they_work_inside_open() -> None:
    names = ("ViT-B-32", "RN50", "mt5-base-ViT-B-32", "xlm-roberta-base-ViT-B-32")
    every, resnet, mt5, xlm_r = (set(architecture_info(name).methods) for name in names)
    assert {"clip", "coop", "provp", "mmrl++"} <= every == xlm_r == mt5
    assert resnet & {"clip", "coop", "provp", "mmrl++"} == {"clip", "coop"}
    assert {"clip", "provp"} <= set(catalog.methods_without([TEXT]))
    assert "coop" not in catalog.methods_without([TEXT])


def test_architectures_without_images_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a later open_clip lists them: audio and text, and a language model that reads images."""
    listed: dict[str, dict[str, Any]] = {
        "ViT-B-32": open_clip.get_model_config("ViT-B-32"),
        "CLAP": {"embed_dim": 8, "audio_cfg": {}, "text_cfg": {}},
        "GenLIP": {"embed_dim": 8, "vision_cfg": {}, "text_cfg": {}, "genlip_cfg": {}},
    }
    monkeypatch.setattr(open_clip, "list_models", lambda: list(listed))
    monkeypatch.setattr(open_clip, "get_model_config", listed.get)
    assert [info.name for info in list_architectures()] == ["ViT-B-32"]


def test_architectures_are_found_by_a_part_of_their_name() -> None:
    assert [info.name for info in list_architectures(["siglip2-512"])] == [
        "ViT-B-16-SigLIP2-512", "ViT-L-16-SigLIP2-512", "ViT-SO400M-16-SigLIP2-512"
    ]  # fmt: skip
    with pytest.raises(
        BackboneError, match=r"unknown architecture 'ViT-Z-16'. Did you mean 'ViT-.-16'\? `vlmadapt backbones"
    ):
        list(list_architectures(["ViT-Z-16"]))


def test_weights_are_cached_where_the_hub_left_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tag = {"hf_hub": "someone/model/"}
    asked = []

    def lookup(repository: str, file: str) -> str | None:
        asked.append((repository, file))
        return str(tmp_path) if file.endswith(".bin") else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lookup)
    assert catalog.is_cached(tag)
    assert asked == [
        ("someone/model", "open_clip_model.safetensors"), ("someone/model", "open_clip_pytorch_model.bin")
    ]  # fmt: skip
    assert not catalog.is_cached({"url": "https://example.org/weights.pt"})


@pytest.mark.slow
def test_all_architectures_open_but_those_on_feature_maps() -> None:
    found = list(list_architectures())
    assert sum(info.opens for info in found) >= 116
    assert all(info.complete and info.text.depth for info in found)
    closed = {info.name for info in found if not info.image.depth}
    assert closed == {info.name for info in found if info.name.startswith(FEATURE_MAPS)} - {"MobileCLIP-B"}


def shallow(config: dict[str, Any]) -> dict[str, Any]:
    """An architecture with two blocks a tower, its widths and everything else kept."""
    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    text |= {"layers": 2, "vocab_size": max(49408, text.get("vocab_size", 0))}  # for the tokenizer at hand
    if "timm_model_name" not in vision:
        vision["layers"] = 2
    changed = {**config, "vision_cfg": vision, "text_cfg": text}
    changed.pop("custom_text", None)
    return changed


def without_weights() -> list[str]:
    """Architectures whose towers are all open_clip's or timm's and open, one for each geometry."""
    return [
        "ViT-B-32", "ViT-bigG-14", "ViT-L-14-CLIPA", "ViT-B-16-SigLIP", "ViT-B-32-SigLIP2-256", "ViT-L-16-SigLIP-256",
        "ViT-SO400M-14-SigLIP", "ViT-SO400M-16-SigLIP-i18n-256", "ViT-gopt-16-SigLIP2-256", "EVA01-g-14", "EVA02-B-16",
        "EVA02-L-14-336", "EVA02-E-14-plus", "PE-Core-T-16-384", "PE-Core-B-16", "PE-Core-L-14-336",
        "PE-Core-bigG-14-448", "MobileCLIP-B", "MobileCLIP2-L-14", "ViTamin-S",
        "vit_medium_patch16_gap_256", "vit_relpos_medium_patch16_cls_224", "coca_ViT-B-32", "coca_base",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", without_weights())
def test_an_architecture_in_its_own_widths_is_exact(name: str) -> None:
    """Two blocks a tower: the rest of the geometry is the published one, images at their full size."""
    config = shallow(open_clip.get_model_config(name))
    two_blocks: Any = partial(_create_shallow, timm.create_model)
    torch.manual_seed(0)
    with mock.patch("open_clip.timm_model.timm.create_model", two_blocks):
        coca = "multimodal_cfg" in config
        kind = open_clip.CoCa if coca else open_clip.CustomTextCLIP if _is_custom(name) else open_clip.CLIP
        model = kind(**config)
    context = model.context_length if coca else config["text_cfg"].get("context_length", 77)
    found = Backbone(name, model, open_clip.SimpleTokenizer(context_length=context))
    assert found.image.depth
    assert found.text.depth == 2
    check_towers(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", catalog.HUB_TEXT)
def test_a_text_tower_of_transformers_opens_in_the_listed_width(name: str) -> None:
    """Two blocks; the rest of the shape follows from the width as in the published configurations."""
    transformers = pytest.importorskip("transformers")
    from tests.core import transformers_families as made

    listed, ids = catalog.HUB_TEXT[name], {"vocab_size": 1000, "pad_token_id": 1}
    width = listed.width
    if listed.family == "M2M100Encoder":
        model = made.with_encoder(transformers.M2M100Config(d_model=width, encoder_layers=2, decoder_layers=1, **ids))
    elif listed.family == "MT5Stack":
        config = transformers.MT5Config(
            d_model=width, num_heads=width // 64, d_kv=64, d_ff=5 * width // 2, num_layers=2, num_decoder_layers=1,
            vocab_size=1000, pad_token_id=0,
        )  # fmt: skip
        model = made.with_encoder(config, "mean_pooler")
    else:
        kind = getattr(transformers, listed.family.replace("Model", "Config"))
        config = kind(
            hidden_size=width, num_attention_heads=width // 64, intermediate_size=4 * width, num_hidden_layers=2,
            max_position_embeddings=514, type_vocab_size=1, **ids
        )  # fmt: skip
        model = made.wrapped(config, "mean_pooler", "linear")
    found = Backbone(name, model, made.as_mt5() if listed.family == "MT5Stack" else made.as_roberta())
    assert (found.text.family, found.text.depth, found.text.width) == (listed.family, 2, width)
    check_towers(found)


def _is_custom(name: str) -> bool:
    return bool(open_clip.get_model_config(name).get("custom_text"))


def _create_shallow(create: Any, name: str, **given: Any) -> Any:
    """A timm model with two blocks."""
    return create(name, **given, **({} if name.startswith("vitamin") else {"depth": 2}))
