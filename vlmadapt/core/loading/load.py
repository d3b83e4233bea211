"""Loading a backbone by name: open_clip's models, and checkpoints of `transformers`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import nn

from vlmadapt import registry
from vlmadapt.core.backbone import Backbone
from vlmadapt.core.backbone.identity import weights_sha256
from vlmadapt.core.backbone.transformers_image import NaflexImage
from vlmadapt.core.loading import transformers_checkpoint
from vlmadapt.core.loading.check import check_towers
from vlmadapt.core.loading.guard import as_backbone_errors, quiet
from vlmadapt.core.loading.model_config import CONFIG, read_model_config
from vlmadapt.core.loading.tag_settings import Checkpoint
from vlmadapt.errors import BackboneError, PluginError, VlmadaptError, VlmadaptWarning, unknown
from vlmadapt.files import exists
from vlmadapt.text import first_line


def load_backbone(spec: str, *, weights: str | None = None) -> Backbone:
    """Load a frozen backbone in float32, and verify that running it block by block is exact.

    Args:
        spec: one of
            a registered name (`tiny`), or `distribution:name` where two distributions use it;
            `ARCHITECTURE:TAG`, an open_clip architecture with one of its pretrained tags, downloaded and cached by
            open_clip (`ViT-B-16:openai`);
            `ARCHITECTURE:FILE`, with a local checkpoint (safetensors, or a file that `torch.load` reads with
            `weights_only=True`), whose preprocessing and activation are those that the architecture's tags agree on;
            `ARCHITECTURE:TAG:FILE`, with a local checkpoint that was trained like a tag;
            a folder with `open_clip_config.json` and weights next to it, or `hf-hub:OWNER/NAME` for one of the Hub;
            a folder with a checkpoint of `transformers` (CLIP, SigLIP, AltCLIP, Chinese-CLIP), or `hf:OWNER/NAME`.
        weights: required SHA-256 of the weights, see `Backbone.fingerprint`.

    Raises:
        BackboneError: the name, the tag or the file is unknown, the weights cannot be read or have another hash, the
            configuration has a setting that is not known to be harmless, or a tower run block by block does not
            reproduce the model's own forward.
        PluginError: the registered backbone is broken or ambiguous.
    """
    registered = registry.plugins(registry.BACKBONES)
    if is_registered(spec):
        return _from_folder(spec, _registered(spec), weights)
    if spec.startswith("hf-hub:"):
        return _from_hub(spec, weights)
    if spec.startswith(transformers_checkpoint.HUB):
        return _from_checkpoint(spec, transformers_checkpoint.download(spec), weights)
    if Path(spec).is_dir():
        return _from_folder(spec, Path(spec), weights)
    architecture, _, pretrained = spec.partition(":")
    if architecture not in open_clip.list_models():
        names = {plugin.name for plugin in registered} | set(open_clip.list_models())
        raise BackboneError(f"{shortened(unknown('backbone', architecture, names))} There is no such folder either.")
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture))
        raise BackboneError(f"say which weights: '{architecture}:TAG' with one of {tags}, or '{architecture}:FILE'.")
    checkpoint = Checkpoint.parse(architecture, pretrained)
    _check_weights_exist(architecture, checkpoint.pretrained)
    return _create(spec, architecture, checkpoint, weights)


def _check_weights_exist(architecture: str, weights: str) -> None:
    """Refuse weights that are neither a tag of the architecture, however it is spelt, nor a file."""
    if not open_clip.get_pretrained_cfg(architecture, weights) and not exists(Path(weights)):
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise BackboneError(f"{unknown(f'tag of {architecture}', weights, tags)} There is no such file either.")


def is_published(spec: str) -> bool:
    """Whether a backbone is registered or has one of open_clip's own pretrained tags.

    Only these are loaded when a file of unknown origin names them.
    """
    architecture, _, tag = spec.partition(":")
    return is_registered(spec) or tag in open_clip.list_pretrained_tags_by_model(architecture)


def is_registered(spec: str) -> bool:
    """Whether a backbone has this registered name."""
    registered = registry.plugins(registry.BACKBONES)
    return any(spec in (plugin.name, f"{plugin.distribution}:{plugin.name}") for plugin in registered)


def untrained(architecture: str) -> Backbone:
    """A backbone without weights (on the meta device), enough to count parameters."""
    if architecture not in open_clip.list_models():
        raise BackboneError(shortened(unknown("architecture", architecture, open_clip.list_models())))
    require_transformers(architecture, open_clip.get_model_config(architecture) or {})
    with as_backbone_errors(architecture), quiet():
        with torch.device("meta"):
            model = open_clip.create_model(architecture, load_weights=False, device="meta")
        return Backbone(architecture, model, open_clip.get_tokenizer(architecture))


def require_transformers(spec: str, config: Mapping[str, Any], folder: Path | None = None) -> None:
    """Refuse a backbone whose text tower or tokenizer comes from a package that is not installed.

    Raises:
        BackboneError: it does; the message says what to install.
    """
    text = config.get("text_cfg", {})
    part = "text tower" if text.get("hf_model_name") else "tokenizer" if text.get("hf_tokenizer_name") else None
    has_merges = part == "tokenizer" and folder is not None and any(folder.glob("bpe_*.txt.gz"))
    if part and not has_merges and find_spec("transformers") is None:
        raise BackboneError(
            f"the {part} of '{spec}' comes from the package transformers; install it with "
            "`pip install 'vlmadapt[transformers]'`."
        )


def _registered(name: str) -> Path:
    plugin = registry.find(registry.BACKBONES, name)
    find_folder = plugin.load()
    try:
        return Path(find_folder())
    except VlmadaptError:
        raise
    except Exception as error:
        raise PluginError(f"{plugin} is broken: {first_line(error, named=True)}") from error


def _from_folder(name: str, folder: Path, weights: str | None) -> Backbone:
    if not (folder / CONFIG).is_file():
        if transformers_checkpoint.is_checkpoint(folder):
            return _from_checkpoint(name, folder, weights)
        raise BackboneError(
            f"the folder '{folder}' holds no {CONFIG} and no {transformers_checkpoint.CONFIG}; it is neither a saved "
            "open_clip model nor a checkpoint of transformers."
        )
    config = read_model_config(folder / CONFIG)
    return _create(name, f"local-dir:{folder}", None, weights, config, folder)


def _from_checkpoint(spec: str, folder: Path, weights: str | None) -> Backbone:
    with quiet():
        model, tokenizer = transformers_checkpoint.load_checkpoint(spec, folder)
        _check_weights(spec, model, weights)
        backbone = Backbone(spec, model, tokenizer)
    check_towers(backbone)
    if isinstance(model.visual, NaflexImage):
        size = model.visual.image_size
        warnings.warn(
            f"'{spec}' takes images of any shape (NaFlex); here all are resized to {size} x {size} pixels, as its own "
            "processor does with square images alone.",
            VlmadaptWarning,
            stacklevel=3,
        )
    return backbone


def _from_hub(spec: str, weights: str | None) -> Backbone:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        path = hf_hub_download(spec.removeprefix("hf-hub:"), CONFIG)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise BackboneError(f"the backbone '{spec}' cannot be loaded: {first_line(error)}") from error
    return _create(spec, spec, None, weights, read_model_config(Path(path)))


def _create(
    spec: str,
    model_name: str,
    checkpoint: Checkpoint | None,
    weights: str | None,
    config: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> Backbone:
    """Build the model, verify its weights, and only then its tokenizer."""
    settings = checkpoint.settings(model_name) if checkpoint else {}
    require_transformers(spec, config or open_clip.get_model_config(model_name) or {}, folder)
    with as_backbone_errors(spec), quiet():
        _refuse_code_of_text_tower(config or open_clip.get_model_config(model_name) or {})
        model = open_clip.create_model(
            model_name, pretrained=checkpoint and checkpoint.pretrained, require_pretrained=True, **settings
        )
        _check_weights(spec, model, weights)
        backbone = Backbone(spec, model, _tokenizer(model_name, config or {}, folder))
    check_towers(backbone)
    return backbone


def _refuse_code_of_text_tower(config: Mapping[str, Any]) -> None:
    """Raise where a text tower of `transformers` is not one of its own; open_clip would ask whether to run its code."""
    if name := config.get("text_cfg", {}).get("hf_model_name"):
        import_module("transformers").AutoConfig.from_pretrained(name, trust_remote_code=False)


def _check_weights(spec: str, model: nn.Module, expected: str | None) -> None:
    if expected is not None and (found := weights_sha256(model.float())) != expected:
        raise BackboneError(f"'{spec}' has other weights ({found[:12]}) instead of ({expected[:12]}).")


def _tokenizer(model_name: str, config: Mapping[str, Any], folder: Path | None) -> Any:
    text = config.get("text_cfg", {})
    merges = sorted(folder.glob("bpe_*.txt.gz")) if folder else []
    if merges:
        context = text.get("context_length", open_clip.tokenizer.DEFAULT_CONTEXT_LENGTH)
        return open_clip.SimpleTokenizer(bpe_path=str(merges[0]), context_length=context)
    # Without this transformers asks on the terminal whether to run code that comes with a tokenizer.
    no_code = {"trust_remote_code": False} if text.get("hf_tokenizer_name") else {}
    return open_clip.get_tokenizer(model_name, **no_code)


def shortened(message: str) -> str:
    """Leave out a list of names that is too long to read."""
    head, _, names = message.partition(" Known: ")
    return message if names.count(",") < 12 else f"{head} `vlmadapt backbones` lists all."
