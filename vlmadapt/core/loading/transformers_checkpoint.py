"""Loading a checkpoint of the package `transformers` from a folder or the Hub: safetensors, and no code of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmadapt.core.backbone.transformers_model import FAMILIES, TransformersModel
from vlmadapt.core.loading.guard import as_backbone_errors
from vlmadapt.core.loading.model_config import all_keys, read_json
from vlmadapt.errors import BackboneError
from vlmadapt.text import first_few

HUB = "hf:"
CONFIG = "config.json"
CONFIGS = (CONFIG, "preprocessor_config.json", "processor_config.json", "tokenizer_config.json")
FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
NO_CODE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
INTERPOLATION = {2: "bilinear", 3: "bicubic"}
"""By PIL's number."""


class CheckpointTokenizer:
    """A tokenizer of `transformers` as open_clip's are called.

    Attributes:
        context_length: longest text that it and the text tower take, in tokens.
    """

    def __init__(self, tokenizer: Any, context_length: int):
        self._tokenizer = tokenizer
        self.context_length = context_length

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        """Texts -> padded ids (N, context_length)."""
        length = context_length or self.context_length
        found = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        ids: Tensor = found["input_ids"]
        return ids


def download(spec: str) -> Path:
    """The folder of a checkpoint of the Hub; its weights only after its configuration was found to be one we know."""
    from huggingface_hub import hf_hub_download, snapshot_download

    _require_package(spec)
    repository = spec.removeprefix(HUB)
    with as_backbone_errors(spec):
        read_family(spec, Path(hf_hub_download(repository, CONFIG)))
        return Path(snapshot_download(repository, allow_patterns=list(FILES), ignore_patterns=["*/*"]))


def load_checkpoint(spec: str, folder: Path) -> tuple[TransformersModel, CheckpointTokenizer]:
    """The model and the tokenizer of a checkpoint, with its own image preprocessing, activation and logit scale.

    Raises:
        BackboneError: `transformers` is missing, the checkpoint is of another kind, lacks weights, or prepares images
            or texts in a way that is not supported.
    """
    family = read_family(spec, folder / CONFIG)
    _refuse_code(spec, folder)
    _require_package(spec)
    with as_backbone_errors(spec):
        transformers = import_module("transformers")
        model = _read_model(spec, folder, getattr(transformers, FAMILIES[family].model), transformers.utils.logging)
        processor = transformers.AutoImageProcessor.from_pretrained(folder, **NO_CODE)
        vision = model.config.vision_config
        if family == "siglip2":
            preprocess = naflex_preprocessing(spec, processor, int(vision.patch_size), int(vision.num_patches))
        else:
            preprocess = preprocessing(spec, processor, int(vision.image_size))
        loaded = TransformersModel(model, preprocess)
        return loaded, _tokenizer(spec, transformers.AutoTokenizer.from_pretrained(folder, **NO_CODE), loaded)


def _require_package(spec: str) -> None:
    if find_spec("transformers") is None:
        raise BackboneError(
            f"'{spec}' is a checkpoint of the package transformers; install it with "
            "`pip install 'vlmadapt[transformers]'`."
        )


def _read_model(spec: str, folder: Path, kind: Any, logging: Any) -> Any:
    """The model in float32, all of its weights from safetensors."""
    if not any(folder.glob("*.safetensors")):
        raise BackboneError(
            f"'{spec}' has no weights as safetensors, and no others are read; save the model with "
            "`save_pretrained(FOLDER)` of transformers, and load that folder."
        )
    with _no_progress_bar(logging):
        model, found = kind.from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are told below, by name
            attn_implementation="eager",  # whatever the configuration says; every model has it
            **NO_CODE,
        )
    lacking = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])})
    if lacking:
        raise BackboneError(f"'{spec}' lacks weights, or has some of another shape: {first_few(lacking)}.")
    return model.to(torch.float32)


@contextmanager
def _no_progress_bar(logging: Any) -> Iterator[None]:
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds the configuration of a model of `transformers`."""
    return (folder / CONFIG).is_file()


def read_family(spec: str, config: Path) -> str:
    """The `model_type` of a checkpoint.

    Raises:
        BackboneError: it is none that can be loaded, or its weights are quantised.
    """
    content = read_json(config)
    family = str(content.get("model_type"))[:60]
    if family not in FAMILIES:
        raise BackboneError(
            f"'{spec}' is a checkpoint of type '{family}', which cannot be loaded; those that can are "
            f"{', '.join(FAMILIES)} (SigLIP 2 of a fixed resolution is a siglip, NaFlex a siglip2)."
        )
    if "quantization_config" in all_keys(content):
        raise BackboneError(
            f"'{spec}' has quantised weights (`quantization_config` in {CONFIG}), which are not supported."
        )
    return family


def _refuse_code(spec: str, folder: Path) -> None:
    """Refuse a checkpoint with code of its own; a class of transformers in its place may give other numbers."""
    for name in CONFIGS:
        if (folder / name).is_file() and "auto_map" in all_keys(read_json(folder / name)):
            raise BackboneError(f"'{spec}' comes with code of its own (`auto_map` in {name}), which is never run.")


def preprocessing(spec: str, processor: Any, image_size: int) -> dict[str, Any]:
    """An image processor of `transformers` as open_clip describes image preprocessing.

    Raises:
        BackboneError: it does something else, or gives images of another size than the model takes.
    """
    crops = getattr(processor, "do_center_crop", False)
    size, crop = _sides(processor.size), _sides(processor.crop_size) if crops else {}
    square = {"height": image_size, "width": image_size}
    if size == square and crop in ({}, square):
        resize_mode = "squash"
    elif size == {"shortest_edge": image_size} and crop == square:
        resize_mode = "shortest"
    else:
        resize_mode = None
    return _described(spec, processor, image_size, resize_mode, {"size": size, "crop": crop or None})


def naflex_preprocessing(spec: str, processor: Any, patch_size: int, positions: int) -> dict[str, Any]:
    """The same for images of any shape, of which the processor makes a given number of patches (NaFlex).

    All are resized to the square that it makes of square images.

    Args:
        spec: name of the checkpoint.
        processor: its image processor.
        patch_size: height and width of the model's patches.
        positions: number of its positions.

    Raises:
        BackboneError: the processor makes other patches, or of a square image not one for each position.
    """
    side = isqrt(positions)
    found = {"patch_size": processor.patch_size, "max_num_patches": processor.max_num_patches}
    fits = side * side == positions == processor.max_num_patches and processor.patch_size == patch_size
    return _described(spec, processor, side * patch_size, "squash" if fits else None, found)


def _described(
    spec: str, processor: Any, image_size: int, resize_mode: str | None, sizes: Mapping[str, Any]
) -> dict[str, Any]:
    """What all processors do in the same way; `resize_mode` None and other steps than these are refused."""
    interpolation = INTERPOLATION.get(int(processor.resample))
    scales = processor.do_resize and processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6
    if not (resize_mode and interpolation and scales and processor.do_normalize):
        found = {**sizes, "resample": processor.resample}
        found |= {name: getattr(processor, name) for name in ("do_resize", "do_rescale", "rescale_factor")}
        raise BackboneError(
            f"'{spec}' prepares images for a model that takes {image_size} x {image_size} pixels in a way that is not "
            f"supported: {', '.join(f'{name} {value}' for name, value in found.items())}."
        )
    return {
        "size": image_size,
        "mode": "RGB",
        "mean": tuple(processor.image_mean),
        "std": tuple(processor.image_std),
        "interpolation": interpolation,
        "resize_mode": resize_mode,
        "fill_color": 0,
    }


def _sides(size: Any) -> dict[str, int]:
    """A size of an image processor: its height and width, or its shortest edge."""
    sides = size if isinstance(size, Mapping) else vars(size) if size is not None else {}
    return {name: int(sides[name]) for name in ("height", "width", "shortest_edge") if sides.get(name)}


def _tokenizer(spec: str, tokenizer: Any, model: TransformersModel) -> CheckpointTokenizer:
    pad = model.text.pad
    if tokenizer.padding_side != "right" or tokenizer.pad_token_id is None:
        raise BackboneError(f"the tokenizer of '{spec}' does not pad texts at their end, which is not supported.")
    if pad is not None and tokenizer.pad_token_id != pad:
        raise BackboneError(
            f"the tokenizer of '{spec}' pads texts with the id {tokenizer.pad_token_id}, but its text tower leaves "
            f"{pad} out; the files do not belong together."
        )
    return CheckpointTokenizer(tokenizer, min(int(tokenizer.model_max_length), model.text.context))
