"""Find labels that are likely wrong: images that a classifier of the other images places in another class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from vlmadapt.core.loading import load_backbone
from vlmadapt.data.check import LabelCheck, WrongLabel
from vlmadapt.data.dataset import Example
from vlmadapt.data.images import Progress
from vlmadapt.data.loader import eval_batches
from vlmadapt.data.transforms import test_transform
from vlmadapt.errors import DataError

FOLDS = 5
BATCH = 128

Array = np.ndarray[Any, np.dtype[Any]]


def wrong_labels(
    examples: Sequence[Example], classes: Sequence[str], backbone: str, progress: Progress | None = None
) -> LabelCheck:
    """Images whose label disagrees with the features of a frozen backbone, the most doubtful first.

    Probabilities of each image come from a logistic regression on the features of others, in `FOLDS` folds. A label is
    doubted by the rule of confident learning (Northcutt et al., JAIR 2021): of the classes whose probability reaches
    the mean that it has for images labelled so, the most probable is another one. Classes with fewer than `FOLDS`
    images are left out.

    Args:
        examples: images that can be read.
        classes: class names.
        backbone: see `vlmadapt.load_backbone`.
        progress: called with the number of encoded images and of all.

    Raises:
        DataError: scikit-learn is missing, or fewer than two classes have enough images.
    """
    counts = Counter(example.label for example in examples)
    used = [example for example in examples if counts[example.label] >= FOLDS]
    if len({example.label for example in used}) < 2:
        raise DataError(f"labels can be checked if two classes or more have {FOLDS} images or more.")
    labels = np.array([example.label for example in used])
    kinds, own = np.unique(labels, return_inverse=True)
    found = out_of_fold(_features(used, backbone, progress), own)
    doubted = tuple(
        WrongLabel(
            used[i].path, classes[labels[i]], classes[kinds[other]], float(found[i, own[i]]), float(found[i, other])
        )
        for i, other in doubtful(found, own)
    )
    return LabelCheck(backbone, len(used), float((found.argmax(axis=1) == own).mean()), doubted)


def out_of_fold(features: Array, labels: Array) -> Array:
    """Probabilities (N, classes) of each image by a classifier that was trained on other images."""
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
    except ModuleNotFoundError as error:
        raise DataError("checking labels needs scikit-learn: pip install 'vlmadapt[probe]'.") from error
    classifier = LogisticRegression(C=10, max_iter=1000)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    found: Array = cross_val_predict(classifier, features, labels, cv=folds, method="predict_proba")
    return found


def doubtful(probabilities: Array, labels: Array) -> list[tuple[int, int]]:
    """Index of each doubted image and of the class it seems to have, least probable labels first.

    Args:
        probabilities: (N, classes).
        labels: (N,).
    """
    own = probabilities[np.arange(len(labels)), labels]
    usual = np.array([own[labels == label].mean() for label in range(probabilities.shape[1])])
    confident = np.where(probabilities >= usual, probabilities, 0)
    best = confident.argmax(axis=1)
    found = np.flatnonzero((confident.max(axis=1) > 0) & (best != labels))
    return [(int(i), int(best[i])) for i in sorted(found, key=lambda i: own[i])]


def _features(examples: Sequence[Example], backbone: str, progress: Progress | None) -> Array:
    """Unit features (N, joint) of the frozen image tower."""
    frozen = load_backbone(backbone)
    if torch.cuda.is_available():
        frozen = frozen.cuda()
    found: list[torch.Tensor] = []
    with torch.inference_mode():
        for batch in eval_batches(examples, test_transform(frozen.preprocess_config), BATCH):
            features = frozen.image.encode(batch.images.to(frozen.device)).float()
            found.append(torch.nn.functional.normalize(features, dim=-1).cpu())
            if progress:
                progress(sum(map(len, found)), len(examples))
    return torch.cat(found).numpy()
