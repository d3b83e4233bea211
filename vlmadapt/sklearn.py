"""Methods as a scikit-learn classifier of images, for cross-validation, grid search and pipelines.

from sklearn.model_selection import cross_val_score
from vlmadapt.sklearn import VLMClassifier

print(cross_val_score(VLMClassifier("clip-adapter", backbone="ViT-B-16:openai"), paths, labels))
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vlmadapt.data.classes import check_class_names
from vlmadapt.data.image_input import ImageInput
from vlmadapt.errors import DataError
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.roles import SEEN
from vlmadapt.training.fit_images import fit_images, label_text

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as error:
    raise DataError("vlmadapt.sklearn needs scikit-learn: pip install 'vlmadapt[probe]'.") from error

Array = np.ndarray[Any, np.dtype[Any]]


class VLMClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A method on a backbone, trained on images and labels.

    `X` is a list or array of images: paths, PIL images, arrays (H, W, 3) or tensors (3, H, W) of uint8.

    Args:
        method: registered name of the method; needed by `fit`.
        backbone: see `FitSettings.backbone`.
        options: options of the method.
        train: training settings.
        names: class name of each label, for labels that are not words; by default their text.
        templates: prompt templates with `{}` for the class name.
        seed: seed of start values and of the order of images.

    Attributes:
        classes_: labels (classes,), sorted, in the order of `predict_proba`.
        predictor_: the trained method, see `vlmadapt.Predictor`.
    """

    def __init__(
        self,
        method: str | None = None,
        backbone: str = "tiny",
        options: Mapping[str, Any] | None = None,
        train: Mapping[str, Any] | None = None,
        names: Mapping[Any, str] | None = None,
        templates: Sequence[str] | None = None,
        seed: int = 1,
    ):
        self.method = method
        self.backbone = backbone
        self.options = options
        self.train = train
        self.names = names
        self.templates = templates
        self.seed = seed

    def fit(self, X: Sequence[ImageInput], y: Sequence[Any]) -> VLMClassifier:
        """Train on images and their labels.

        Raises:
            VlmadaptError: there is no method, images and labels do not match, a label is missing, two labels have the
                same name, or an image cannot be read.
        """
        if self.method is None:
            raise DataError("VLMClassifier has no method; name one, as in VLMClassifier('coop').")
        labels = np.asarray(y)
        self.classes_: Array = np.unique(labels)
        names = [self._name(label) for label in self.classes_.tolist()]
        check_class_names(names, "labels")
        with tempfile.TemporaryDirectory() as folder:
            result = fit_images(
                X,
                [self._name(label) for label in labels.tolist()],
                out=Path(folder) / "run",
                method=self.method,
                backbone=self.backbone,
                options=dict(self.options or {}),
                train=dict(self.train or {}),
                templates=None if self.templates is None else list(self.templates),
                seed=self.seed,
            )
        self.predictor_ = Predictor(result.classifier, names, SEEN)
        return self

    def predict(self, X: Sequence[ImageInput]) -> Array:
        """The label (N,) of each image."""
        best: Array = self.predict_proba(X).argmax(axis=1)
        return self.classes_[best]

    def predict_proba(self, X: Sequence[ImageInput]) -> Array:
        """Probabilities (N, classes) in the order of `classes_`."""
        check_is_fitted(self)
        return self.predictor_.predict_proba(X)

    def _name(self, label: Any) -> str:
        return label_text(label if self.names is None else self.names[label])

    def __sklearn_tags__(self) -> Any:
        """Tags that tell scikit-learn that rows of `X` are images, not numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
