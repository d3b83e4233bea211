"""The public plugin API: everything a method, a data set or a backbone in another package needs.

Built-in plugins import from here and from nowhere else in the library; a test enforces it.

Names are imported when they are first used, so that a data set's plugin does not import torch.

What each entry-point group takes: `vlmadapt.methods` a class derived from `Method`; `vlmadapt.datasets` a `DataSource`
(found in the user's data root, checked and prepared by `vlmadapt data`), or a function without arguments that returns a
`Dataset`; `vlmadapt.backbones` a function without arguments that returns what `--backbone` takes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vlmadapt.deprecated import warn_deprecated

if TYPE_CHECKING:
    from vlmadapt.compare.published import Leak, Published
    from vlmadapt.core.backbone import Backbone, ImageTower, TextTower
    from vlmadapt.core.block_copy import BlockCopy
    from vlmadapt.core.build import method_class
    from vlmadapt.core.descriptions import Descriptions
    from vlmadapt.core.forward import ForwardPass, similarity
    from vlmadapt.core.hooks import (
        AFTER_ATTENTION,
        AFTER_BLOCK,
        AFTER_MLP,
        ATTENTION,
        BLOCK,
        CONTEXT,
        EMBEDDING,
        END,
        FIRST,
        HIDDEN,
        KEY,
        MLP,
        NEXT_TO_NORM1,
        NEXT_TO_NORM2,
        NORM1,
        NORM2,
        OVER,
        PATCHES,
        QUERY,
        ROW,
        VALUE,
        Hook,
        Read,
        adapt,
        head,
        inject,
        per_class,
        per_image,
        per_variant,
        prompt,
        teacher,
    )
    from vlmadapt.core.method import LossTerm, Method, Support, Task, Trainer, total
    from vlmadapt.core.mixed_hooks import mixed_hooks
    from vlmadapt.core.parts import (
        LowRank,
        clone_linear,
        cosine_distance,
        map_each,
        random_tokens,
        tokens_from_text,
        zero_based,
    )
    from vlmadapt.core.recipe import Recipe
    from vlmadapt.core.side import IMAGE, TEXT, Side
    from vlmadapt.core.support_method import SupportMethod, assign, collect
    from vlmadapt.core.templates import Template, TokenizedTexts, Tokenizer
    from vlmadapt.core.trained_copy import TrainedCopy
    from vlmadapt.core.trained_run import TrainedRun
    from vlmadapt.core.transport import sinkhorn
    from vlmadapt.core.wrapper import Wrapper, WrapperConfig
    from vlmadapt.data.cache import cache_dir
    from vlmadapt.data.dataset import Dataset, Example
    from vlmadapt.data.describing import random_descriptors, with_descriptor
    from vlmadapt.data.source import DataSource, Step
    from vlmadapt.errors import BackboneError, DataError, VlmadaptError
    from vlmadapt.evaluation.trained_run import trained_run
    from vlmadapt.files import read_json, read_text
    from vlmadapt.registry import API_VERSION
    from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN, Role
    from vlmadapt.text import readable

_MODULES = {
    "vlmadapt.compare.published": ("Leak", "Published"),
    "vlmadapt.core.backbone": (
        "Backbone",
        "ImageTower",
        "TextTower",
    ),
    "vlmadapt.core.block_copy": ("BlockCopy",),
    "vlmadapt.core.build": ("method_class",),
    "vlmadapt.core.descriptions": ("Descriptions",),
    "vlmadapt.core.forward": (
        "ForwardPass",
        "similarity",
    ),
    "vlmadapt.core.hooks": (
        "AFTER_ATTENTION",
        "AFTER_BLOCK",
        "AFTER_MLP",
        "ATTENTION",
        "BLOCK",
        "CONTEXT",
        "EMBEDDING",
        "END",
        "FIRST",
        "HIDDEN",
        "KEY",
        "MLP",
        "NEXT_TO_NORM1",
        "NEXT_TO_NORM2",
        "NORM1",
        "NORM2",
        "OVER",
        "PATCHES",
        "QUERY",
        "ROW",
        "VALUE",
        "Hook",
        "Read",
        "adapt",
        "head",
        "inject",
        "per_class",
        "per_image",
        "per_variant",
        "prompt",
        "teacher",
    ),
    "vlmadapt.core.method": (
        "LossTerm",
        "Method",
        "Support",
        "Task",
        "Trainer",
        "total",
    ),
    "vlmadapt.core.mixed_hooks": ("mixed_hooks",),
    "vlmadapt.core.parts": (
        "LowRank",
        "clone_linear",
        "cosine_distance",
        "map_each",
        "random_tokens",
        "tokens_from_text",
        "zero_based",
    ),
    "vlmadapt.core.recipe": ("Recipe",),
    "vlmadapt.core.side": (
        "IMAGE",
        "TEXT",
        "Side",
    ),
    "vlmadapt.core.support_method": (
        "SupportMethod",
        "assign",
        "collect",
    ),
    "vlmadapt.core.templates": (
        "Template",
        "TokenizedTexts",
        "Tokenizer",
    ),
    "vlmadapt.core.trained_copy": ("TrainedCopy",),
    "vlmadapt.core.trained_run": ("TrainedRun",),
    "vlmadapt.core.transport": ("sinkhorn",),
    "vlmadapt.core.wrapper": (
        "Wrapper",
        "WrapperConfig",
    ),
    "vlmadapt.data.cache": ("cache_dir",),
    "vlmadapt.data.dataset": (
        "Dataset",
        "Example",
    ),
    "vlmadapt.data.describing": (
        "random_descriptors",
        "with_descriptor",
    ),
    "vlmadapt.data.source": (
        "DataSource",
        "Step",
    ),
    "vlmadapt.errors": (
        "BackboneError",
        "DataError",
        "VlmadaptError",
    ),
    "vlmadapt.evaluation.trained_run": ("trained_run",),
    "vlmadapt.files": (
        "read_json",
        "read_text",
    ),
    "vlmadapt.registry": ("API_VERSION",),
    "vlmadapt.roles": (
        "SEEN",
        "UNKNOWN",
        "UNSEEN",
        "Role",
    ),
    "vlmadapt.text": ("readable",),
}
_WHERE = {name: module for module, names in _MODULES.items() for name in names}
_RENAMED = {
    "Forward": "ForwardPass",
    "Term": "LossTerm",
    "TokenRows": "TokenizedTexts",
    "block_indices": "zero_based",
    "copies": "clone_linear",
    "worded_tokens": "tokens_from_text",
}
"""Names of plugin API 1 and what they are called now."""

__all__ = [
    "AFTER_ATTENTION",
    "AFTER_BLOCK",
    "AFTER_MLP",
    "API_VERSION",
    "ATTENTION",
    "BLOCK",
    "CONTEXT",
    "EMBEDDING",
    "END",
    "FIRST",
    "HIDDEN",
    "IMAGE",
    "KEY",
    "MLP",
    "NEXT_TO_NORM1",
    "NEXT_TO_NORM2",
    "NORM1",
    "NORM2",
    "OVER",
    "PATCHES",
    "QUERY",
    "ROW",
    "SEEN",
    "TEXT",
    "UNKNOWN",
    "UNSEEN",
    "VALUE",
    "Backbone",
    "BackboneError",
    "BlockCopy",
    "DataError",
    "DataSource",
    "Dataset",
    "Descriptions",
    "Example",
    "ForwardPass",
    "Hook",
    "ImageTower",
    "Leak",
    "LossTerm",
    "LowRank",
    "Method",
    "Published",
    "Read",
    "Recipe",
    "Role",
    "Side",
    "Step",
    "Support",
    "SupportMethod",
    "Task",
    "Template",
    "TextTower",
    "TokenizedTexts",
    "Tokenizer",
    "TrainedCopy",
    "TrainedRun",
    "Trainer",
    "VlmadaptError",
    "Wrapper",
    "WrapperConfig",
    "adapt",
    "assign",
    "cache_dir",
    "clone_linear",
    "collect",
    "cosine_distance",
    "head",
    "inject",
    "map_each",
    "method_class",
    "mixed_hooks",
    "per_class",
    "per_image",
    "per_variant",
    "prompt",
    "random_descriptors",
    "random_tokens",
    "read_json",
    "read_text",
    "readable",
    "similarity",
    "sinkhorn",
    "teacher",
    "tokens_from_text",
    "total",
    "trained_run",
    "with_descriptor",
    "zero_based",
]


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        warn_deprecated(f"{__name__}.{name}", f"{__name__}.{_RENAMED[name]}")
        name = _RENAMED[name]
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return globals().setdefault(name, getattr(import_module(_WHERE[name]), name))
