"""The public plugin API: everything a method, a data set or a backbone in another package needs.

Built-in plugins import from here and from nowhere else in the library; a test sees to it.

What each entry-point group takes: `vlmadapt.methods` a class derived from `Method`; `vlmadapt.datasets` a `DataSource`,
which is loaded from, checked against and got into the user's data root, or a function without arguments that returns a
`Dataset`; `vlmadapt.backbones` a function without arguments that returns what `--backbone` takes.
"""

from vlmadapt.core.backbone import Backbone, ImageTower, TextTower
from vlmadapt.core.forward import Forward, similarity
from vlmadapt.core.hooks import (
    ATTENTION,
    BLOCK,
    CONTEXT,
    EMBEDDING,
    END,
    FIRST,
    IMAGE,
    KEY,
    MLP,
    OVER,
    QUERY,
    TEXT,
    VALUE,
    Hook,
    Read,
    Side,
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
    Method,
    Role,
    Support,
    Task,
    Term,
    Trainer,
    total,
)
from vlmadapt.core.parts import LowRank, block_indices, copies, cosine_distance, random_tokens, worded_tokens
from vlmadapt.core.published import Published
from vlmadapt.core.recipe import Recipe
from vlmadapt.core.templates import Template, TokenRows, readable
from vlmadapt.core.transport import sinkhorn
from vlmadapt.data.cache import cache_dir
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.source import DataSource, Step
from vlmadapt.errors import BackboneError, DataError, VlmadaptError
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
    "Forward",
    "Hook",
    "ImageTower",
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
    "Term",
    "TextTower",
    "TokenRows",
    "Trainer",
    "VlmadaptError",
    "adapt",
    "block_indices",
    "cache_dir",
    "copies",
    "cosine_distance",
    "head",
    "inject",
    "per_class",
    "per_image",
    "per_variant",
    "prompt",
    "random_tokens",
    "readable",
    "similarity",
    "sinkhorn",
    "teacher",
    "total",
    "worded_tokens",
]
