"""Gradient maps: what each patch adds to the log-odds of the predicted class, by integrated gradients.

The patches are taken as they enter the middle block of the image tower, see `vlmadapt.core.patch_path`. Through the
engine and with the method's hooks, so the map is that of the adapted model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vlmadapt.core.backbone import ImageTower
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.patch_path import PatchPath
from vlmadapt.deploy.explanation import Explanation
from vlmadapt.errors import BackboneError, VlmadaptError
from vlmadapt.evaluation.predictor import Predictor

STEPS = 16
"""Points of the path from patches that are all alike to those of the image."""
KIND = "gradient map"


class NoGradientMap(VlmadaptError):
    """There is none for this method or tower; the message is the reason, as part of a sentence."""


def by_gradient(predictor: Predictor, image: Tensor) -> Explanation:
    """What each patch adds to the log-odds of the predicted class against all others.

    Args:
        predictor: the one to explain.
        image: (3, H, W) as the backbone's test transform has prepared it.

    Raises:
        NoGradientMap: the tower is closed, or the scores have no gradients that lead to all of what they rest on.
    """
    classifier, tower = predictor.classifier, predictor.classifier.backbone.image
    _refuse_without_gradients(predictor)
    grid = _grid(tower)
    probabilities = predictor.probabilities(image[None])[0]
    chosen = int(probabilities.argmax())
    classifier.drop_kept()  # made in inference mode, where they cannot be part of a graph
    path = PatchPath(tower.depth // 2)
    images = FrozenImages(image.expand(STEPS, -1, -1, -1), path=path)
    with torch.enable_grad(), _fixed(classifier.method):
        scores = classifier.route(images, predictor.classes, predictor.role)
        found = path.contributions(log_odds(scores, chosen))
    if found is None or not path.complete:
        name = type(classifier.method).__name__
        raise NoGradientMap(f"the scores of {name} have no gradients with respect to all that they rest on")
    evidence = found.cpu().unflatten(0, grid)
    return Explanation(predictor.classes[chosen], float(probabilities[chosen]), evidence, KIND)


def log_odds(scores: Tensor, chosen: int) -> Tensor:
    """log p / (1 - p) of a class, (B,), with p the softmax of scores (B, classes)."""
    others = torch.cat([scores[:, :chosen], scores[:, chosen + 1 :]], dim=1)
    return scores[:, chosen] - others.logsumexp(dim=1)


def _grid(tower: ImageTower) -> tuple[int, int]:
    try:
        return tower.grid
    except BackboneError as error:
        raise NoGradientMap("the patches of the image tower are no grid of squares") from error


def _refuse_without_gradients(predictor: Predictor) -> None:
    method, tower = predictor.classifier.method, predictor.classifier.backbone.image
    if not tower.blocks:
        raise NoGradientMap(f"only the output of the image tower ({tower.family}) can be used")
    if method.streams:
        raise NoGradientMap(f"answers of {type(method).__name__} depend on earlier images")
    if method.test_views > 1:
        raise NoGradientMap(f"{type(method).__name__} answers from several views of an image")
    if len(predictor.classes) < 2:
        raise NoGradientMap("one class has no other to be compared with")


@contextmanager
def _fixed(method: nn.Module) -> Iterator[None]:
    """Leave the method's own parameters out of the graph, which would hold all class texts for them."""
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
