"""Few-shot adaptation of vision-language models.

The names below are the whole Python interface for users; `vlmadapt.plugin` is the one for authors of methods. They are
imported when first used, so `import vlmadapt` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmadapt.core.backbone import Backbone as Backbone
    from vlmadapt.core.method import Method as Method

_WHERE = {
    "Backbone": "vlmadapt.core.backbone",
    "Method": "vlmadapt.core.method",
}

__all__ = ["Backbone", "Method"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'vlmadapt' has no attribute '{name}'")
