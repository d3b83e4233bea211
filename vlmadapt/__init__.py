"""Few-shot adaptation of vision-language models.

The names below are the Python interface for users; `vlmadapt.plugin` is that for authors of plugins. They are imported
on first use, so `import vlmadapt` takes no time.

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
    from vlmadapt.core.loading import load_backbone as load_backbone
    from vlmadapt.core.method import Method as Method
    from vlmadapt.errors import VlmadaptError as VlmadaptError
    from vlmadapt.evaluation.evaluate import evaluate as evaluate
    from vlmadapt.evaluation.predict import load as load
    from vlmadapt.evaluation.predictor import Predictor as Predictor
    from vlmadapt.runs.settings import FitSettings as FitSettings
    from vlmadapt.training.fit import FitResult as FitResult
    from vlmadapt.training.fit import fit as fit
    from vlmadapt.training.fit_images import fit_images as fit_images

_WHERE = {
    "Backbone": "vlmadapt.core.backbone",
    "FitResult": "vlmadapt.training.fit",
    "FitSettings": "vlmadapt.runs.settings",
    "Method": "vlmadapt.core.method",
    "Predictor": "vlmadapt.evaluation.predictor",
    "VlmadaptError": "vlmadapt.errors",
    "evaluate": "vlmadapt.evaluation.evaluate",
    "fit": "vlmadapt.training.fit",
    "fit_images": "vlmadapt.training.fit_images",
    "load": "vlmadapt.evaluation.predict",
    "load_backbone": "vlmadapt.core.loading",
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
    "fit_images",
    "load",
    "load_backbone",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'vlmadapt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
