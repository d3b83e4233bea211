"""A stranger's model folder: only known settings of plain kinds are passed on, and no code is run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest

from tests import small
from tests.parity import tiny_clip
from vlmadapt import load_backbone
from vlmadapt.core.loading.model_config import CONFIG, read_model_config
from vlmadapt.errors import BackboneError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_clip.write(tmp_path / "clip", small.SETTINGS)


def change(folder: Path, *keys: str, value: Any) -> None:
    content = inner = json.loads((folder / CONFIG).read_text())
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    (folder / CONFIG).write_text(json.dumps(content))


def test_a_harmless_folder_is_loaded(folder: Path) -> None:
    change(folder, "model_cfg", "text_cfg", "tokenizer_kwargs", value={"clean": "lower"})
    assert load_backbone(str(folder)).text.depth == 3


def test_every_architecture_of_open_clip_is_known(tmp_path: Path) -> None:
    for name in open_clip.list_models():
        (tmp_path / CONFIG).write_text(json.dumps({"model_cfg": open_clip.get_model_config(name)}))
        read_model_config(tmp_path / CONFIG)


@pytest.mark.parametrize("where", [
    ("model_cfg", "text_cfg", "tokenizer_kwargs", "trust_remote_code"),
    ("model_cfg", "text_cfg", "TRUST_REMOTE_CODE"),
    ("preprocess_cfg", "trust_remote_code"),
    ("anything", "at", "all", "trust_remote_code"),
])  # fmt: skip
def test_code_that_comes_with_a_model_is_refused(folder: Path, where: tuple[str, ...]) -> None:
    change(folder, *where, value=True)
    with pytest.raises(BackboneError, match="asks to run code that comes with the model"):
        load_backbone(str(folder))


def test_its_tokenizer_is_never_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an attack would be written: a tokenizer class of its own, for transformers to import."""
    pytest.importorskip("transformers")
    change(folder, "model_cfg", "text_cfg", "hf_tokenizer_name", value="stranger/tokenizer")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Theirs", None]}})
    )
    (folder / "theirs.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    for allowed in (True, None):
        change(
            folder, "model_cfg", "text_cfg", "tokenizer_kwargs", value={"trust_remote_code": True} if allowed else {}
        )
        with pytest.raises(BackboneError):
            load_backbone(str(folder))
    assert not (folder / "ran").exists()
    assert "theirs" not in sys.modules


@pytest.mark.parametrize(("where", "value", "said"), [
    (("model_cfg", "text_cfg", "tokenizer_kwargs", "use_fast"), True, "unknown setting 'use_fast'"),
    (("model_cfg", "vision_cfg", "widht"), 64, "unknown setting 'widht'. Did you mean 'width'?"),
    (("model_cfg", "tokenizer"), "theirs.py", "unknown setting 'tokenizer'"),
    (("preprocess_cfg", "exec"), "rm", "unknown setting 'exec'"),
    (("model_cfg", "vision_cfg"), "large", "where settings are expected"),
    (("model_cfg", "text_cfg"), [], "does not describe a model"),
    (("model_cfg",), 3, "does not describe a model"),
])  # fmt: skip
def test_what_is_not_known_is_refused(folder: Path, where: tuple[str, ...], value: Any, said: str) -> None:
    change(folder, *where, value=value)
    with pytest.raises(BackboneError) as refused:
        load_backbone(str(folder))
    assert said in str(refused.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", "[" * 100_000, "{" + " " * 2**20 + "}"])
def test_a_damaged_configuration_is_one_sentence(folder: Path, content: str) -> None:
    (folder / CONFIG).write_text(content)
    with pytest.raises(BackboneError, match="cannot be read"):
        load_backbone(str(folder))


def test_weights_are_compared_before_a_tokenizer_is_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip, "get_tokenizer", lambda *_, **__: pytest.fail("a tokenizer was built"))
    with pytest.raises(BackboneError, match="has other weights"):
        load_backbone(str(folder), weights="0" * 64)
