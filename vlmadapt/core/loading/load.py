"""Loading a backbone by name, through open_clip's factory."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import open_clip
import torch

from vlmadapt import registry
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.loading.check import check_towers
from vlmadapt.errors import BackboneError, PluginError, VlmadaptError, unknown
from vlmadapt.text import first_line

CONFIG = "open_clip_config.json"


def load_backbone(spec: str) -> Backbone:
    """Load a frozen backbone in float32, and verify that running it block by block is exact.

    Args:
        spec: one of
            a registered name (`tiny`), or `distribution:name` where two distributions use it;
            `ARCHITECTURE:TAG`, an open_clip architecture with one of its pretrained tags, downloaded and cached by
            open_clip (`ViT-B-16:openai`);
            `ARCHITECTURE:FILE`, with a local checkpoint (safetensors, or a file that `torch.load` reads with
            `weights_only=True`);
            a folder with `open_clip_config.json` and weights beside it;
            `hf-hub:OWNER/NAME`.

    Raises:
        BackboneError: the name, the tag or the file is unknown, its weights cannot be read, or a tower run block by
            block does not reproduce open_clip's forward.
        PluginError: the registered backbone is broken or ambiguous.
    """
    registered = registry.plugins(registry.BACKBONES)
    if any(spec in (plugin.name, f"{plugin.distribution}:{plugin.name}") for plugin in registered):
        return _from_folder(spec, _registered(spec))
    if spec.startswith("hf-hub:"):
        return _create(spec, spec, None)
    if Path(spec).is_dir():
        return _from_folder(spec, Path(spec))
    architecture, _, pretrained = spec.partition(":")
    if architecture not in open_clip.list_models():
        names = {plugin.name for plugin in registered} | set(open_clip.list_models())
        raise BackboneError(_short(unknown("backbone", architecture, names)))
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise BackboneError(f"say which weights: '{architecture}:TAG' with one of {tags}, or '{architecture}:FILE'.")
    return _create(spec, architecture, pretrained)


def untrained(architecture: str) -> Backbone:
    """A backbone without weights (on the meta device), enough to count parameters."""
    if architecture not in open_clip.list_models():
        raise BackboneError(_short(unknown("architecture", architecture, open_clip.list_models())))
    with torch.device("meta"), _quiet():
        model = open_clip.create_model(architecture, load_weights=False, device="meta")
    return Backbone(architecture, model, open_clip.get_tokenizer(architecture))


def _registered(name: str) -> Path:
    plugin = registry.find(registry.BACKBONES, name)
    find_folder = plugin.load()
    try:
        return Path(find_folder())
    except VlmadaptError:
        raise
    except Exception as error:
        raise PluginError(f"{plugin} is broken: {first_line(error, named=True)}") from error


def _from_folder(name: str, folder: Path) -> Backbone:
    config = folder / CONFIG
    if not config.is_file():
        raise BackboneError(f"the folder '{folder}' holds no {CONFIG}; it is not a saved open_clip model.")
    try:
        text = json.loads(config.read_text())["model_cfg"]["text_cfg"]
    except (json.JSONDecodeError, KeyError) as error:
        raise BackboneError(f"'{config}' cannot be read: {error!r}.") from error
    merges = sorted(folder.glob("bpe_*.txt.gz"))
    tokenizer = None
    if merges:
        context = text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        tokenizer = open_clip.SimpleTokenizer(bpe_path=str(merges[0]), context_length=context)
    return _create(name, f"local-dir:{folder}", None, tokenizer)


def _create(spec: str, model_name: str, pretrained: str | None, tokenizer: Any = None) -> Backbone:
    tag = open_clip.get_pretrained_cfg(model_name, pretrained) if pretrained and ":" not in model_name else {}
    try:
        with _quiet():
            model = open_clip.create_model(
                model_name,
                pretrained=pretrained,
                force_quick_gelu=bool((tag or {}).get("quick_gelu")),
                require_pretrained=True,
            )
            tokenizer = tokenizer or open_clip.get_tokenizer(model_name)
    except UnpicklingError as error:
        raise BackboneError(
            f"the backbone '{spec}' cannot be loaded: its file is damaged or holds more than tensors, and unpickling "
            "that may run any code; save its state dict alone, best as safetensors."
        ) from error
    except Exception as error:
        raise BackboneError(f"the backbone '{spec}' cannot be loaded: {first_line(error)[:300]}") from error
    backbone = Backbone(spec, model, tokenizer)
    check_towers(backbone)
    return backbone


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's remarks: they are about training a model, none is about a frozen one."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _short(message: str) -> str:
    """Leave out a list of names that is too long to read."""
    head, _, names = message.partition(" Known: ")
    return message if names.count(",") < 12 else f"{head} `open_clip.list_models()` lists all."
