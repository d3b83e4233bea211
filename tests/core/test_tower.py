"""Towers of every form that open_clip has: how they embed, pool and project, and which of them open."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch

from vlmadapt import Backbone
from vlmadapt.core.backbone.tower import ImageTower, TextTower
from vlmadapt.core.loading.check import check_towers
from vlmadapt.errors import BackboneError

VISION = {"image_size": 16, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
TEXT = {"context_length": 12, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}


def tokenizer() -> Any:
    return open_clip.SimpleTokenizer(context_length=12)


def model(kind: type = open_clip.CLIP, vision: dict[str, Any] | None = None, text: dict[str, Any] | None = None) -> Any:
    torch.manual_seed(0)
    return kind(32, VISION | (vision or {}), TEXT | (text or {})).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def plain() -> Any:
    return model()


@pytest.fixture(scope="module")
def image(plain: Any) -> ImageTower:
    return ImageTower(plain)


@pytest.fixture(scope="module")
def text(plain: Any) -> TextTower:
    return TextTower(plain, tokenizer())


# -- images -----------------------------------------------------------------------------------------------------------


def test_an_image_is_embedded_as_its_transformer_receives_it(plain: Any, image: ImageTower) -> None:
    pixels, received = torch.randn(2, 3, 16, 16), []
    handle = plain.visual.transformer.register_forward_pre_hook(lambda module, args: received.append(args[0]))
    expected = plain.encode_image(pixels)
    handle.remove()
    tokens = image.embed(pixels)
    assert tokens.shape == (2, image.sequence_length, image.width) == (2, 5, 64)
    torch.testing.assert_close(tokens, received[0])
    pooled = image.norm(plain.visual.transformer(tokens))[:, 0]
    torch.testing.assert_close(image.project(pooled), expected)
    torch.testing.assert_close(image.encode(pixels), expected)
    torch.testing.assert_close(pooled @ image.projection, expected)


def test_appended_tokens_get_the_first_norm_and_no_position(plain: Any, image: ImageTower) -> None:
    tokens = torch.randn(3, 64)
    assert torch.equal(image.embed_extra(tokens, slice(5, 8)), plain.visual.ln_pre(tokens))


def test_the_leading_token_is_a_copy_without_position(plain: Any, image: ImageTower) -> None:
    assert torch.equal(image.leading_token, plain.visual.class_embedding)
    image.leading_token.zero_()
    assert plain.visual.class_embedding.any()


@pytest.mark.parametrize(
    "vision",
    [{"attentional_pool": True}, {"pool_type": "avg"}, {"layers": (1, 1, 1, 1), "head_width": 32, "image_size": 32}],
    ids=["attention pooling", "average", "ResNet"],
)
def test_an_image_tower_of_another_form_only_encodes(vision: dict[str, Any]) -> None:
    tower = ImageTower(model(vision=vision))
    assert (tower.blocks, tower.depth, tower.width) == ((), 0, 0)
    assert tower.encode(torch.randn(2, 3, *tower.size)).shape == (2, tower.joint) == (2, 32)


def test_an_old_name_of_the_geometry_still_works_with_a_warning(image: ImageTower) -> None:
    with pytest.warns(DeprecationWarning, match="ImageTower.places is deprecated; write ImageTower.sequence_length"):
        assert image.places == 5


# -- texts ------------------------------------------------------------------------------------------------------------


def test_a_text_is_embedded_as_its_transformer_receives_it(plain: Any, text: TextTower) -> None:
    ids, received = text.tokenize(["a cat", "a photo of a dog."]), []
    handle = plain.transformer.register_forward_pre_hook(lambda module, args: received.append(args[0]))
    expected = plain.encode_text(ids)
    handle.remove()
    tokens = text.embed(ids)
    assert tokens.shape == (2, text.context, text.width) == (2, 12, 64)
    torch.testing.assert_close(tokens, received[0])
    torch.testing.assert_close(text.embed(ids[:, :7]), tokens[:, :7])
    done = text.norm(plain.transformer(tokens, attn_mask=plain.attn_mask))
    torch.testing.assert_close(text.project(done[torch.arange(2), text.end(ids)]), expected)
    torch.testing.assert_close(text.encode(ids), expected)


def test_tokens_get_the_embedding_of_their_own_positions(plain: Any, text: TextTower) -> None:
    tokens = torch.randn(2, 3, 64)
    positions = torch.tensor([[1, 2, 3], [4, 6, 8]])
    assert torch.equal(text.embed_extra(tokens, positions), tokens + plain.positional_embedding[positions])
    assert torch.equal(text.embed_extra(tokens, slice(1, 4)), tokens + plain.positional_embedding[1:4])


def test_lengths_are_counted_past_the_context(text: TextTower) -> None:
    words = " ".join(["cat"] * 30)
    assert text.lengths(["", "a cat", words]).tolist() == [2, 4, 32]
    assert text.tokenize([words]).shape == (1, 12)


def test_words_are_embedded_without_positions_start_and_end(plain: Any, text: TextTower) -> None:
    ids = text.tokenize(["a photo of"])[0, 1:4]
    assert torch.equal(text.words("a photo of"), plain.token_embedding(ids))
    assert text.words("").shape == (0, 64)
    end = int(text.tokenize([""])[0].max())
    assert torch.equal(text.end_token, plain.token_embedding.weight[end])


def test_norms_are_copied_to_be_trained(plain: Any, text: TextTower) -> None:
    block, copies, x = plain.transformer.resblocks[1], text.norm_copies(1), torch.randn(3, text.width)
    for norm, own in zip(copies, (block.ln_1, block.ln_2), strict=True):
        assert torch.equal(norm(x), own(x))
        assert all(p.requires_grad for p in norm.parameters())
        assert not any(p.requires_grad for p in own.parameters())
        norm.weight.detach().zero_()
        assert own.weight.all()


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_a_text_projection_is_a_matrix(kind: type) -> None:
    tower = TextTower(model(kind), tokenizer())
    x = torch.randn(3, tower.width)
    torch.testing.assert_close(x @ tower.projection, tower.project(x))


def test_a_text_projection_with_a_bias_is_no_matrix() -> None:
    tower = TextTower(model(open_clip.CustomTextCLIP, text={"proj_bias": True}), tokenizer())
    with pytest.raises(BackboneError, match="text projection is no matrix"):
        _ = tower.projection


def test_a_text_tower_of_clip_sees_earlier_tokens_alone(text: TextTower) -> None:
    assert text.causal
    assert text.device.type == "cpu"
    assert (text.joint, text.depth, text.family) == (32, 2, "CLIP")


POOLED = {
    "argmax": [3, 5],
    "eos": [3, 5],
    "last": [11, 11],
    "first": [0, 0],
}


@pytest.mark.parametrize("pool", POOLED)
def test_the_pooled_token_is_that_of_the_towers_own_rule(pool: str) -> None:
    end = 49407
    custom = model(open_clip.CustomTextCLIP, text={"pool_type": pool, "eos_id": end})
    tower = TextTower(custom, tokenizer())
    ids = tower.tokenize(["a cat", "a cat and dog"])
    assert tower.end(ids).tolist() == POOLED[pool]
    if pool == "eos":
        assert tower.end(torch.tensor([[1, end, 5, end]])).tolist() == [1], "the first one"


TEXTS: dict[str, tuple[type, dict[str, Any]]] = {
    "native": (open_clip.CLIP, {}),
    "custom": (open_clip.CustomTextCLIP, {}),
    "pooled last": (open_clip.CustomTextCLIP, {"pool_type": "last"}),
    "pooled first": (open_clip.CustomTextCLIP, {"pool_type": "first", "no_causal_mask": True}),
    "without a causal mask": (open_clip.CustomTextCLIP, {"no_causal_mask": True}),
    "with a bias in the projection": (open_clip.CustomTextCLIP, {"proj_bias": True}),
}


@pytest.mark.parametrize("name", TEXTS)
def test_every_text_tower_that_opens_is_the_models_own(name: str) -> None:
    kind, changes = TEXTS[name]
    backbone = Backbone(name, model(kind, text=changes), tokenizer())
    assert backbone.text.depth == 2
    assert backbone.text.causal is not changes.get("no_causal_mask", False)
    check_towers(backbone)


@pytest.mark.parametrize("changes", [{"embed_cls": True}, {"embed_cls": True, "pad_id": 0}])
def test_a_text_tower_with_a_token_of_its_own_only_encodes(changes: dict[str, Any]) -> None:
    tower = TextTower(model(open_clip.CustomTextCLIP, text=changes), tokenizer())
    assert (tower.blocks, tower.width) == ((), 0)
    assert tower.joint == 32
