"""What open_clip's architectures allow: their towers, which of them open, which methods run; no weights are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import open_clip
import torch

from vlmadapt.core.backbone import ImageTower, TextTower, Tower
from vlmadapt.core.loading.guard import quiet
from vlmadapt.core.loading.load import shortened
from vlmadapt.core.loading.model_config import MODEL_KEYS
from vlmadapt.core.plan import works_outside
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.errors import BackboneError, unknown
from vlmadapt.registry.listing import OK, list_plugins


@dataclass(frozen=True)
class TowerInfo:
    """A tower of an architecture.

    Attributes:
        family: class of the tower.
        depth: number of blocks; 0 where the tower does not open.
        width: width of its tokens; 0 where the tower does not open.
        on_feature_maps: True where it cannot open: it has feature maps instead of tokens.
    """

    family: str
    depth: int
    width: int
    on_feature_maps: bool = False

    @classmethod
    def of(cls, tower: Tower) -> TowerInfo:
        """What a tower says of itself."""
        return cls(tower.family, tower.depth, tower.width, tower.on_feature_maps)


HUB_TEXT = {
    "roberta-base": TowerInfo("RobertaModel", 12, 768),
    "xlm-roberta-base": TowerInfo("XLMRobertaModel", 12, 768),
    "xlm-roberta-large": TowerInfo("XLMRobertaModel", 24, 1024),
    "facebook/nllb-200-distilled-600M": TowerInfo("M2M100Encoder", 12, 1024),
    "facebook/nllb-200-distilled-1.3B": TowerInfo("M2M100Encoder", 24, 1024),
    "google/mt5-base": TowerInfo("MT5Stack", 12, 768),
    "google/mt5-xl": TowerInfo("MT5Stack", 24, 2048),
}
"""Text towers of `transformers` that open, by their name on the Hub, which has their configurations."""


@dataclass(frozen=True)
class ArchitectureInfo:
    """An architecture of open_clip.

    Attributes:
        name: as open_clip lists it.
        image: its image tower.
        text: its text tower.
        joint: width of the joint space.
        tags: its pretrained tags.
        cached: those of them whose weights are on this machine.
        methods: installed methods that work inside none of its closed towers.
    """

    name: str
    image: TowerInfo
    text: TowerInfo
    joint: int
    tags: tuple[str, ...]
    cached: tuple[str, ...]
    methods: tuple[str, ...]

    @property
    def opens(self) -> bool:
        """Whether both towers open, so that methods can work inside them."""
        return bool(self.image.depth and self.text.depth)

    @property
    def complete(self) -> bool:
        """Whether every method runs that its towers have tokens for."""
        return all(tower.depth or tower.on_feature_maps for tower in (self.image, self.text))


def image_text_architectures() -> list[str]:
    """Names of open_clip's architectures with an image and a text encoder.

    Later releases list others too, for audio, and language models that read images.
    """
    configs = {name: set(open_clip.get_model_config(name) or ()) for name in open_clip.list_models()}
    return [name for name, keys in configs.items() if {"vision_cfg", "text_cfg"} <= keys <= MODEL_KEYS]


def list_architectures(parts: Sequence[str] = ()) -> Iterator[ArchitectureInfo]:
    """open_clip's architectures whose names contain one of `parts`, all without any.

    Raises:
        BackboneError: no name contains one of them.
    """
    names = image_text_architectures()
    for part in parts:
        if not any(part.lower() in name.lower() for name in names):
            raise BackboneError(shortened(unknown("architecture", part, names)))
    for name in names:
        if not parts or any(part.lower() in name.lower() for part in parts):
            yield architecture_info(name)


def architecture_info(name: str) -> ArchitectureInfo:
    """One architecture, built without weights on the meta device."""
    config: dict[str, Any] = open_clip.get_model_config(name)
    foreign = config["text_cfg"].get("hf_model_name")
    with torch.device("meta"), quiet():
        if foreign:  # its text tower needs the package transformers and a configuration of the Hub
            model = open_clip.CustomTextCLIP(config["embed_dim"], config["vision_cfg"], {})
        else:
            model = open_clip.create_model(name, load_weights=False, device="meta")
    image = ImageTower(model)
    closed = TowerInfo("HFTextEncoder", 0, 0)
    text = HUB_TEXT.get(foreign, closed) if foreign else TowerInfo.of(TextTower(model, None))
    output_only = [side for side, depth in ((IMAGE, image.depth), (TEXT, text.depth)) if not depth]
    tags = tuple(open_clip.list_pretrained_tags_by_model(name))
    cached = tuple(tag for tag in tags if is_cached(open_clip.get_pretrained_cfg(name, tag)))
    joint = int(config["embed_dim"])
    return ArchitectureInfo(name, TowerInfo.of(image), text, joint, tags, cached, methods_without(output_only))


def methods_without(closed: Iterable[Side]) -> tuple[str, ...]:
    """Installed methods that work outside all of these towers."""
    sides = tuple(closed)
    usable = [plugin for plugin in list_plugins("method") if plugin.status == OK and plugin.source is not None]
    return tuple(plugin.name for plugin in usable if all(works_outside(plugin, side) for side in sides))


def is_cached(tag: dict[str, Any]) -> bool:
    """Whether the Hugging Face cache of this machine holds the weights of a pretrained tag."""
    from huggingface_hub import try_to_load_from_cache

    owner, _, rest = tag.get("hf_hub", "").partition("/")
    repository, _, file = rest.partition("/")
    files = [file] if file else [open_clip.constants.HF_SAFE_WEIGHTS_NAME, open_clip.constants.HF_WEIGHTS_NAME]
    return bool(repository) and any(
        isinstance(try_to_load_from_cache(f"{owner}/{repository}", each), str) for each in files
    )
