"""Verify an `open_clip_config.json` from a folder or the Hub before anything is built from it.

open_clip passes what the file says on to constructors, `tokenizer_kwargs` even to `transformers`, where
`trust_remote_code` would run Python code that comes with the files. Only known settings with plain values are accepted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from open_clip.coca_model import MultimodalCfg
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.transform import PreprocessCfg

from vlmadapt.errors import BackboneError, unknown

CONFIG = "open_clip_config.json"
MAX_BYTES = 2**20

MODEL_KEYS = frozenset({
    "cast_dtype", "custom_text", "embed_dim", "init_logit_bias", "init_logit_scale", "multimodal_cfg",
    "nonscalar_logit_scale", "output_dict", "quick_gelu", "text_cfg", "vision_cfg",
})  # fmt: skip
TOKENIZER_KEYS = frozenset({"clean", "language", "strip_sep_token", "tokenizer_mode"})
TOWER_CONFIGS = {"text_cfg": CLIPTextCfg, "vision_cfg": CLIPVisionCfg, "multimodal_cfg": MultimodalCfg}


def read_model_config(path: Path) -> dict[str, Any]:
    """The `model_cfg` of an `open_clip_config.json`, verified.

    Raises:
        BackboneError: the file is not such a configuration, or has a setting that must not be passed on.
    """
    content = read_json(path)
    config = content.get("model_cfg")
    if not isinstance(config, dict) or not isinstance(config.get("text_cfg"), dict):
        raise BackboneError(f"'{path}' cannot be read: 'model_cfg' does not describe a model.")
    _refuse_code(content, path)
    _refuse_unknown(config, MODEL_KEYS, path)
    for name, kind in TOWER_CONFIGS.items():
        _refuse_unknown(config.get(name) or {}, {field.name for field in fields(kind)}, path)
    _refuse_unknown(config["text_cfg"].get("tokenizer_kwargs") or {}, TOKENIZER_KEYS, path)
    _refuse_unknown(content.get("preprocess_cfg") or {}, {field.name for field in fields(PreprocessCfg)}, path)
    return config


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of less than 1 MiB.

    Raises:
        BackboneError: the file holds none.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise ValueError("no regular file of less than 1 MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("no object in it")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise BackboneError(f"'{path}' cannot be read: {type(error).__name__}: {error}.") from error
    return content


def _refuse_code(content: Any, path: Path) -> None:
    for key in all_keys(content):
        if "trust_remote_code" in key.lower():
            raise BackboneError(
                f"'{path}' asks to run code that comes with the model (`{key}`); vlmadapt never does. Use a model of "
                "open_clip or transformers that needs no code of its own."
            )


def _refuse_unknown(config: Any, known: Iterable[str], path: Path) -> None:
    if not isinstance(config, Mapping):
        raise BackboneError(f"'{path}' cannot be read: {str(config)[:60]!r} where settings are expected.")
    for key in config:
        if key not in known:
            raise BackboneError(f"'{path}': {unknown('setting', str(key)[:60], known)}")


def all_keys(content: Any) -> Iterator[str]:
    """Every key of nested JSON."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from map(str, value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
