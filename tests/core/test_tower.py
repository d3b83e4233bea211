"""Towers of every form that open_clip has: how they embed, pool and project, and which of them open."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch

from tests.core import families
from vlmadapt import Backbone
from vlmadapt.core.backbone.image_tower import ImageTower
from vlmadapt.core.backbone.text_tower import TextTower
from vlmadapt.core.loading.check import check_towers
from vlmadapt.core.templates import Template
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
    assert torch.equal(image.first_norm(tokens), plain.visual.ln_pre(tokens))


def test_the_leading_token_is_a_copy_without_position(plain: Any, image: ImageTower) -> None:
    assert torch.equal(image.leading_token, plain.visual.class_embedding)
    image.leading_token.zero_()
    assert plain.visual.class_embedding.any()


@pytest.mark.parametrize(
    "vision",
    [{"attentional_pool": "parallel"}, {"qk_norm": True}, {"layers": (1, 1, 1, 1), "head_width": 32, "image_size": 32}],
    ids=["two poolings", "blocks of another kind", "ResNet"],
)
def test_an_image_tower_of_another_form_has_no_blocks(vision: dict[str, Any]) -> None:
    tower = ImageTower(model(vision=vision))
    assert (tower.blocks, tower.depth, tower.width, tower.joint) == ((), 0, 0, 32)
    with pytest.raises(BackboneError, match="only the output of the image tower"):
        tower.norm(torch.randn(2, 64))


def project_alone(vision: dict[str, Any]) -> tuple[ImageTower, torch.Tensor]:
    tower = ImageTower(model(vision=vision))
    return tower, torch.randn(3, 64)


def test_a_token_read_alone_is_projected_as_the_mean_of_one() -> None:
    tower, token = project_alone({"pool_type": "avg", "final_ln_after_pool": True})
    visual = tower._visual
    torch.testing.assert_close(tower.project(tower.norm(token)), visual.ln_post(token) @ visual.proj)
    with pytest.raises(
        BackboneError, match=r"the image tower of this backbone \(VisionTransformer\) ends in no projection matrix"
    ):
        _ = tower.projection


def test_a_token_read_alone_is_pooled_alone_where_a_query_pools() -> None:
    tower, token = project_alone({"attentional_pool": True, "attn_pooler_queries": 2, "attn_pooler_heads": 2})
    visual = tower._visual
    expected = visual.ln_post(visual.attn_pool(token[:, None]))[:, 0] @ visual.proj
    torch.testing.assert_close(tower.project(tower.norm(token)), expected)
    assert tower.pooled == ("leading tokens", "patches")


def test_siglips_image_tower_has_no_leading_token_and_no_projection() -> None:
    tower = families.backbone("SigLIP").image
    assert (tower.leading, tower.pooled, tower.width, tower.joint) == (0, ("patches",), 64, 64)
    assert torch.equal(tower.leading_token, tower._visual.trunk.attn_pool.latent[0, 0]), "the query that pools"
    assert families.backbone("EVA-02").image.projection.shape == (64, 64)
    assert families.backbone("EVA-02").image.leading_token.shape == (64,)


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


def test_a_text_projection_with_a_bias_is_a_matrix_and_what_is_added() -> None:
    made = model(open_clip.CustomTextCLIP, text={"proj_bias": True})
    torch.nn.init.normal_(made.text.text_projection.bias)
    tower, x = TextTower(made, tokenizer()), torch.randn(3, 64)
    assert tower.projection_bias is not None
    torch.testing.assert_close(x @ tower.projection + tower.projection_bias, tower.project(x))


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


def test_cocas_text_tower_appends_its_cls_and_masks_padding_one_place_late() -> None:
    text = families.backbone("CoCa").text
    ids = text.tokenize(["a cat"])
    assert text.embed(ids).shape == (1, 41, 64)
    assert text.end(ids).tolist() == [40]
    assert text.words_end(ids).tolist() == [3]
    padding = text.padding(ids)
    assert padding is not None
    assert (~padding[0]).nonzero().flatten().tolist() == [0, 1, 2, 3, 4], "start, a, cat, end, and one place more"
    right = families.backbone("CoCa, mask in its place").text.padding(ids)
    assert right is not None
    assert (~right[0]).nonzero().flatten().tolist() == [0, 1, 2, 3, 40]


@pytest.mark.parametrize(("family", "leading"), [("SigLIP", 0), ("SigLIP 2", 0), ("CLIPA", 1), ("CLIP", 1)])
def test_where_words_begin_and_end_is_read_off_the_tokenizer(family: str, leading: int) -> None:
    text = families.backbone(family).text
    ids = text.tokenize(["", "a cat", " ".join(["cat"] * 60)])
    assert text.leading == leading
    assert text.words_end(ids).tolist() == [leading, leading + 2, 39]
    assert text.lengths(["", "a cat", " ".join(["cat"] * 60)]).tolist() == [leading + 1, leading + 3, leading + 61]
    assert text.words("a photo of").shape == (3, 64)


def test_vectors_stand_where_the_template_says_without_a_start_of_text() -> None:
    written = Template.parse("[2] of a {} [1].").write(("cat", "big dog"), families.backbone("SigLIP").text)
    assert written.context.tolist() == [[0, 1, 5], [0, 1, 6]]
