"""Preprocessing and activation of a checkpoint file, which states neither: those of the architecture's own tags."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip

from vlmadapt.errors import VlmadaptWarning
from vlmadapt.text import first_few

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


@dataclass(frozen=True)
class Checkpoint:
    """What `ARCHITECTURE:` is followed by.

    Attributes:
        pretrained: a tag of the architecture, or a file.
        tag: the tag whose preprocessing and activation apply; None if the file's spec names none.
    """

    pretrained: str
    tag: str | None

    @classmethod
    def parse(cls, architecture: str, text: str) -> Checkpoint:
        """Read `TAG`, `FILE` or `TAG:FILE`."""
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        if text in tags:
            return cls(text, text)
        tag, _, file = text.partition(":")
        return cls(file, tag) if file and tag in tags else cls(text, None)

    def settings(self, architecture: str) -> dict[str, Any]:
        """Arguments of `open_clip.create_model`: preprocessing and activation.

        A file that names no tag gets what all tags of the architecture agree on; of the others a warning says what
        they are and how to choose.
        """
        tags = [self.tag] if self.tag else open_clip.list_pretrained_tags_by_model(architecture)
        known = [open_clip.get_pretrained_cfg(architecture, tag) for tag in tags]
        found, differing = agreement(known, (*PREPROCESSING, "quick_gelu"))
        if differing and Path(self.pretrained).is_file():  # any other mistake is told when it is opened
            warnings.warn(
                f"the pretrained tags of {architecture} differ in {', '.join(differing)}, so open_clip's defaults are "
                f"used there; if '{self.pretrained}' was trained like one of them, write '{architecture}:TAG:FILE' "
                f"with one of {first_few(tags)}.",
                VlmadaptWarning,
                stacklevel=2,
            )
        preprocessing = {key: found[key] for key in PREPROCESSING if key in found}
        return {"force_quick_gelu": bool(found.get("quick_gelu")), "force_preprocess_cfg": preprocessing}


def agreement(stated: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """The values that all agree on, and the keys in which they differ; a key that none states is neither."""
    found: dict[str, Any] = {}
    differing = []
    every = list(stated)
    for key in keys:
        values = [settings.get(key) for settings in every]
        if any(value != values[0] for value in values):
            differing.append(key)
        elif values and values[0] is not None:
            found[key] = values[0]
    return found, differing
