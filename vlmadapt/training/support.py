"""Support set: the labelled images of a run that methods may use before and after training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.forward import ForwardPass
from vlmadapt.data.dataset import Example
from vlmadapt.data.loader import eval_batches
from vlmadapt.data.splits import Splits
from vlmadapt.data.transforms import test_transform, train_transform
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.runs.settings import FitSettings


class SupportSet:
    """Training and validation images of a run; implements `vlmadapt.core.method.Support`.

    Every process sees all of them; test images are never among them.
    """

    def __init__(self, classifier: Classifier, splits: Splits, settings: FitSettings):
        self._classifier = classifier
        self._classes, self._train, self._val = splits.classes, splits.train, splits.val
        self._settings = settings
        config, recipe = classifier.backbone.preprocess_config, settings.recipe
        self._plain = test_transform(config)
        self._augmented = train_transform(config, recipe.crop_scale, recipe.flip)

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """`times` epochs of the training images in fixed order."""
        for epoch in range(times):
            yield self._forwards(self._train, augmented, epoch)

    def passes(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """Deprecated: `epochs`."""
        warn_deprecated("Support.passes", "Support.epochs")
        return self.epochs(augmented, times)

    def validation(self) -> Iterator[ForwardPass]:
        """The validation images of the training classes."""
        yield from self._forwards(self._val, augmented=False, epoch=0)

    def _forwards(self, examples: Sequence[Example], augmented: bool, epoch: int) -> Iterator[ForwardPass]:
        transform = self._augmented if augmented else self._plain
        device = self._classifier.device
        for batch in eval_batches(
            examples, transform, batch_size=100, workers=self._settings.workers, seed=self._settings.seed, epoch=epoch
        ):
            yield self._classifier.forward(batch.images.to(device), self._classes, batch.labels.to(device))
