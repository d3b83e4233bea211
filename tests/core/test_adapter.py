"""A saved adapter answers as before, and one that does not fit is refused with what does not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests import small
from tests.parity import tiny_clip
from vlmadapt import Backbone
from vlmadapt.core import adapter
from vlmadapt.core.adapter import AdapterConfig, load_adapter, read_config, save_adapter
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task
from vlmadapt.errors import AdapterError
from vlmadapt.files import content_sha256
from vlmadapt.registry import API_VERSION
from vlmadapt.roles import SEEN, Role

TEMPLATES = ("a photo of a {}.",)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
OPTIONS: dict[str, dict[str, Any]] = {
    "clip": {},
    "coop": {"tokens": 2},
    "maple": {"depth": 2},
    "mmrl": {"layers": [2, 3], "width": 16},
    "mmrl++": {"layers": [2, 3], "width": 16, "rank": 2, "projection_rank": 2},
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


def saved(folder: Path, backbone: Backbone, name: str = "coop", **options: Any) -> Classifier:
    """A method with tensors that no start gives, in a folder."""
    torch.manual_seed(5)
    method = build_method(name, backbone, Task(small.NAMES, TEMPLATES), {**OPTIONS[name], **options})
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_adapter(folder, name, method, backbone, TEMPLATES)
    return Classifier(backbone, method, TEMPLATES)


def change_config(folder: Path, **changes: Any) -> None:
    """Other content with a checksum that fits, as a stranger's file may have."""
    config = json.loads((folder / CONFIG).read_text())
    del config["config_sha256"]
    content = {**config, **changes}
    (folder / CONFIG).write_text(json.dumps({**content, "config_sha256": content_sha256(content)}))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)
    change_config(folder, weights_sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())


def refusal(folder: Path, backbone: Backbone, classes: tuple[str, ...] = small.NAMES) -> str:
    with pytest.raises(AdapterError) as refused:
        load_adapter(folder, backbone, classes)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_loaded_adapter_answers_as_before(tmp_path: Path, backbone: Backbone, name: str, role: Role) -> None:
    before = saved(tmp_path, backbone, name)
    method, config = load_adapter(tmp_path, backbone, ["other", "classes"])
    after = Classifier(backbone, method, config.templates)
    images = tiny_clip.inputs(0, 3, 16)
    assert torch.equal(after.scores(images, small.NAMES, role), before.scores(images, small.NAMES, role))
    assert not method.training


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_saving_what_was_loaded_gives_the_same_files(tmp_path: Path, backbone: Backbone, name: str) -> None:
    saved(tmp_path / "a", backbone, name)
    method, config = load_adapter(tmp_path / "a", backbone, small.NAMES)
    save_adapter(tmp_path / "b", name, method, backbone, config.templates)
    for file in (CONFIG, WEIGHTS):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_options_may_be_changed_against_training(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone, "mmrl")
    method, _ = load_adapter(tmp_path, backbone, small.NAMES, {"alpha": 0.25})
    assert method.config.alpha == 0.25
    assert method.config.width == 16


def test_another_backbone_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path / "adapter", backbone)
    other = tiny_clip.load(tmp_path / "other", {**small.SETTINGS, "seed": 8})
    message = refusal(tmp_path / "adapter", other)
    assert f"was made for the backbone '{backbone.name}'" in message
    assert backbone.fingerprint()[:12] in message
    assert f"'{other.name}' has other weights ({other.fingerprint()[:12]})" in message


def test_the_same_weights_in_another_place_are_the_same_backbone(tmp_path: Path, backbone: Backbone) -> None:
    before = saved(tmp_path / "adapter", backbone)
    moved = tiny_clip.load(tmp_path / "moved", small.SETTINGS)
    assert moved.name != backbone.name
    method, config = load_adapter(tmp_path / "adapter", moved, small.NAMES)
    after = Classifier(moved, method, config.templates)
    images = tiny_clip.inputs(0, 3, 16)
    assert torch.equal(after.scores(images, small.NAMES, SEEN), before.scores(images, small.NAMES, SEEN))


@pytest.mark.parametrize("what", ["preprocess", "activation", "tokenizer"])
def test_the_same_weights_used_in_another_way_are_another_backbone(
    tmp_path: Path, backbone: Backbone, what: str
) -> None:
    """Weights alone do not decide what a backbone answers."""
    saved(tmp_path / "adapter", backbone)
    other = tiny_clip.load(tmp_path / "other", small.SETTINGS)
    if what == "preprocess":
        other.model.visual.preprocess_cfg["mean"] = (0.5, 0.5, 0.5)
    elif what == "activation":
        for block in (*other.model.visual.transformer.resblocks, *other.model.transformer.resblocks):
            block.mlp.gelu = torch.nn.SiLU()
    else:
        original = other.text._tokenizer
        other.text._tokenizer = lambda texts, context_length: original([t.upper() for t in texts], context_length)
    assert other.fingerprint() == backbone.fingerprint()
    assert f"has other {what}" in refusal(tmp_path / "adapter", other)


def test_a_missing_tensor_is_named(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone, "mmrl")
    change_weights(tmp_path, lambda tensors: tensors.pop("space"))
    assert refusal(tmp_path, backbone).endswith("do not fit: space is missing.")


def test_a_surplus_tensor_is_named(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    change_weights(tmp_path, lambda tensors: tensors.update(extra=torch.zeros(1)))
    assert refusal(tmp_path, backbone).endswith("do not fit: extra is not part of this method.")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    change_weights(tmp_path, lambda tensors: tensors.update(context=torch.zeros(3, 64)))
    assert refusal(tmp_path, backbone).endswith("do not fit: context is (3, 64) in the file and (2, 64) here.")


def test_an_adapter_knows_its_classes(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone, per_class=True)
    method, config = load_adapter(tmp_path, backbone)
    assert method.trained_classes == tuple(config.classes) == small.NAMES


def test_an_adapter_for_any_classes_names_none(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    assert read_config(tmp_path).classes == []


def test_an_adapter_of_format_1_is_given_its_classes(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone, per_class=True)
    change_config(tmp_path, format=1, classes=[])
    load_adapter(tmp_path, backbone, small.NAMES)
    assert "context is (5, 2, 64) in the file and (2, 2, 64) here" in refusal(tmp_path, backbone, ("a", "b"))


@pytest.mark.parametrize("file", [CONFIG, WEIGHTS])
def test_a_missing_file_is_named(tmp_path: Path, backbone: Backbone, file: str) -> None:
    saved(tmp_path, backbone)
    (tmp_path / file).unlink()
    assert file in refusal(tmp_path, backbone)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:40] + b"?" + b[41:], lambda b: b"", lambda b: b * 2])
def test_damaged_weights_are_noticed(tmp_path: Path, backbone: Backbone, damage: Callable[[bytes], bytes]) -> None:
    saved(tmp_path, backbone)
    (tmp_path / WEIGHTS).write_bytes(damage((tmp_path / WEIGHTS).read_bytes()))
    assert f"{WEIGHTS}' is not the file that {CONFIG} describes; the adapter is damaged" in refusal(tmp_path, backbone)


def test_weights_that_are_no_safetensors_are_named(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    (tmp_path / WEIGHTS).write_bytes(b"pickle")
    change_config(tmp_path, weights_sha256=hashlib.sha256(b"pickle").hexdigest())
    assert f"{WEIGHTS}' cannot be read" in refusal(tmp_path, backbone)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}', b'{"format": 1, "x": 2}']
)
def test_a_damaged_config_is_named(tmp_path: Path, backbone: Backbone, content: bytes) -> None:
    saved(tmp_path, backbone)
    (tmp_path / CONFIG).write_bytes(content)
    assert f"{CONFIG}' is not an adapter's configuration" in refusal(tmp_path, backbone)


@pytest.mark.parametrize("field", ["method", "options", "distribution", "api_version", "backbone", "templates"])
def test_a_field_of_another_kind_is_named(tmp_path: Path, backbone: Backbone, field: str) -> None:
    saved(tmp_path, backbone)
    change_config(tmp_path, **{field: 1.5})
    assert f"'{field}' is no " in refusal(tmp_path, backbone)


def test_a_newer_format_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    change_config(tmp_path, format=5)
    assert "has format 5; this version reads up to 4" in refusal(tmp_path, backbone)


def test_a_newer_plugin_api_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    change_config(tmp_path, api_version=API_VERSION + 1)
    message = refusal(tmp_path, backbone)
    assert f"plugin API {API_VERSION + 1}, this version has {API_VERSION}" in message
    assert "install a newer vlmadapt" in message


def test_a_method_that_is_not_installed_is_named_with_its_distribution(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    change_config(tmp_path, method="best-method", distribution={"name": "their-methods", "version": "3.1"})
    assert "method 'best-method' of the distribution 'their-methods 3.1'" in refusal(tmp_path, backbone)


def test_an_option_that_the_method_has_no_longer_is_named(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    change_config(tmp_path, options={"tokens": 2, "word": "a"})
    assert "unknown option of CoOp 'word'. Did you mean 'words'?" in refusal(tmp_path, backbone)


def test_a_folder_without_an_adapter_is_named(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=f"'{tmp_path}' holds no adapter"):
        read_config(tmp_path)


@pytest.mark.parametrize("format_", [2, 3])
def test_a_changed_config_is_noticed(tmp_path: Path, backbone: Backbone, format_: int) -> None:
    """Templates, options and classes decide the numbers as tensors do."""
    saved(tmp_path, backbone)
    text = (tmp_path / CONFIG).read_text().replace("a photo of a {}.", "a photo of the {}.")
    (tmp_path / CONFIG).write_text(text.replace('"format": 3', f'"format": {format_}'))
    assert f"{CONFIG}' was changed after it was saved" in refusal(tmp_path, backbone)


def test_a_config_of_format_3_without_a_checksum_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    config = json.loads((tmp_path / CONFIG).read_text())
    del config["config_sha256"]
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert "was changed after it was saved" in refusal(tmp_path, backbone)
    (tmp_path / CONFIG).write_text(json.dumps({**config, "format": 2}))
    load_adapter(tmp_path, backbone)  # as older versions have saved it


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 + 2j])
def test_numbers_that_no_training_gives_are_refused(tmp_path: Path, backbone: Backbone, value: complex) -> None:
    saved(tmp_path, backbone)
    what = "complex numbers" if isinstance(value, complex) else "numbers that are not finite"
    change_weights(tmp_path, lambda tensors: tensors.update(context=torch.full((2, 64), value)))
    assert f"{WEIGHTS}' has {what} in the tensor 'context'" in refusal(tmp_path, backbone)


def test_numbers_that_are_not_finite_are_not_saved(tmp_path: Path, backbone: Backbone) -> None:
    method = saved(tmp_path, backbone).method
    before = (tmp_path / WEIGHTS).read_bytes()
    with torch.no_grad():
        next(method.parameters()).fill_(float("inf"))
    with pytest.raises(AdapterError, match="the adapter of 'coop' has numbers that are not finite in the tensor 'cont"):
        save_adapter(tmp_path, "coop", method, backbone, TEMPLATES)
    assert (tmp_path / WEIGHTS).read_bytes() == before


def test_files_that_a_writer_replaces_in_between_are_read_again(
    tmp_path: Path, backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "old", backbone, tokens=3)
    saved(tmp_path / "new", backbone, tokens=2)
    original, reads = adapter.read_config, []

    def read(folder: Path) -> AdapterConfig:
        reads.append(folder)
        return original(tmp_path / "old" if len(reads) == 1 else folder)

    monkeypatch.setattr(adapter, "read_config", read)
    method, config = load_adapter(tmp_path / "new", backbone)
    assert len(reads) == 2
    assert config.options["tokens"] == method.config.tokens == 2


def test_options_that_no_method_can_be_built_with_are_one_sentence(tmp_path: Path, backbone: Backbone) -> None:
    saved(tmp_path, backbone)
    change_config(tmp_path, options={"tokens": 10**15})
    assert "was made by method 'coop'" in refusal(tmp_path, backbone)


@pytest.mark.parametrize(
    "field", [{"distribution": {}}, {"backbone": {"name": "tiny"}}, {"templates": [1]}, {"classes": ["a", None]}]
)
def test_a_missing_or_wrong_part_of_a_field_is_named(tmp_path: Path, backbone: Backbone, field: dict[str, Any]) -> None:
    saved(tmp_path, backbone)
    change_config(tmp_path, **field)
    (name,) = field
    assert f"is not an adapter's configuration: '{name}" in refusal(tmp_path, backbone)
