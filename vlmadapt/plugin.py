"""The public plugin API: everything a method, a data set or a backbone in another package needs.

Built-in plugins import from here and from nowhere else in the library; a test enforces it.

What each entry-point group takes: `vlmadapt.methods` a class derived from `Method`; `vlmadapt.datasets` a `DataSource`
(found in the user's data root, checked and prepared by `vlmadapt data`), or a function without arguments that returns a
`Dataset`; `vlmadapt.backbones` a function without arguments that returns what `--backbone` takes.
"""

from vlmadapt.compare.published_table import Published
from vlmadapt.core.backbone import Backbone, ImageTower, TextTower
from vlmadapt.core.forward import ForwardPass, similarity
from vlmadapt.core.hooks import (
    ATTENTION,
    BLOCK,
    CONTEXT,
    EMBEDDING,
    END,
    FIRST,
    KEY,
    MLP,
    OVER,
    QUERY,
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
from vlmadapt.core.method import (
    SEEN,
    UNKNOWN,
    UNSEEN,
    LossTerm,
    Method,
    Role,
    Support,
    Task,
    Trainer,
    total,
)
from vlmadapt.core.parts import LowRank, clone_linear, cosine_distance, random_tokens, tokens_from_text, zero_based
from vlmadapt.core.recipe import Recipe
from vlmadapt.core.side import IMAGE, TEXT, Side
from vlmadapt.core.templates import Template, TokenizedTexts, readable
from vlmadapt.core.transport import sinkhorn
from vlmadapt.data.cache import cache_dir
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.source import DataSource, Step
from vlmadapt.deprecated import deprecated_names
from vlmadapt.errors import BackboneError, DataError, VlmadaptError
from vlmadapt.files import read_json, read_text
from vlmadapt.registry import API_VERSION

__all__ = [
    "API_VERSION",
    "ATTENTION",
    "BLOCK",
    "CONTEXT",
    "EMBEDDING",
    "END",
    "FIRST",
    "IMAGE",
    "KEY",
    "MLP",
    "OVER",
    "QUERY",
    "SEEN",
    "TEXT",
    "UNKNOWN",
    "UNSEEN",
    "VALUE",
    "Backbone",
    "BackboneError",
    "DataError",
    "DataSource",
    "Dataset",
    "Example",
    "ForwardPass",
    "Hook",
    "ImageTower",
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
    "Task",
    "Template",
    "TextTower",
    "TokenizedTexts",
    "Trainer",
    "VlmadaptError",
    "adapt",
    "cache_dir",
    "clone_linear",
    "cosine_distance",
    "head",
    "inject",
    "per_class",
    "per_image",
    "per_variant",
    "prompt",
    "random_tokens",
    "read_json",
    "read_text",
    "readable",
    "similarity",
    "sinkhorn",
    "teacher",
    "tokens_from_text",
    "total",
    "zero_based",
]

__getattr__ = deprecated_names(
    __name__,
    {
        "Forward": ("ForwardPass", ForwardPass),
        "Term": ("LossTerm", LossTerm),
        "TokenRows": ("TokenizedTexts", TokenizedTexts),
        "block_indices": ("zero_based", zero_based),
        "copies": ("clone_linear", clone_linear),
        "worded_tokens": ("tokens_from_text", tokens_from_text),
    },
)
