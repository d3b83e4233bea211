"""Few-shot adaptation of vision-language models.

The names below are the whole Python interface for users; `vlmadapt.plugin` is the one for authors of methods. They are
imported when first used, so `import vlmadapt` costs nothing.

    from vlmadapt import FitSettings, fit, load

    result = fit(FitSettings(method="mmrl++", data="./my_images"))
    for best in load(result.folder).predict(["cat.jpg"]):
        print(best)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlmadapt.core.backbone import Backbone as Backbone
    from vlmadapt.core.method import Method as Method
    from vlmadapt.errors import VlmadaptError as VlmadaptError
    from vlmadapt.workflows.fit import FitResult as FitResult
    from vlmadapt.workflows.fit import fit as fit
    from vlmadapt.workflows.predict import Predictor as Predictor
    from vlmadapt.workflows.predict import load as load
    from vlmadapt.workflows.retest import evaluate as evaluate
    from vlmadapt.workflows.settings import FitSettings as FitSettings

_WHERE = {
    "Backbone": "vlmadapt.core.backbone",
    "FitResult": "vlmadapt.workflows.fit",
    "FitSettings": "vlmadapt.workflows.settings",
    "Method": "vlmadapt.core.method",
    "Predictor": "vlmadapt.workflows.predict",
    "VlmadaptError": "vlmadapt.errors",
    "evaluate": "vlmadapt.workflows.retest",
    "fit": "vlmadapt.workflows.fit",
    "load": "vlmadapt.workflows.predict",
}

__all__ = [
    "Backbone",
    "FitResult",
    "FitSettings",
    "Method",
    "Predictor",
    "VlmadaptError",
    "evaluate",
    "fit",
    "load",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'vlmadapt' has no attribute '{name}'")
