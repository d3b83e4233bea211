"""Support set: the labelled images of a run that methods may use before and after training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.core.forward import ForwardPass
from vlmadapt.data.dataset import Example
from vlmadapt.data.loader import Batch, eval_batches
from vlmadapt.data.splits import Splits
from vlmadapt.data.transforms import test_transform, train_transform
from vlmadapt.deprecated import warn_deprecated
from vlmadapt.runs.progress import Reporter
from vlmadapt.runs.settings import FitSettings
from vlmadapt.runs.shared import Shared

BATCH = 100
"""Images that pass the tower at once."""


class SupportSet:
    """Training and validation images of a run; implements `vlmadapt.core.method.Support`.

    Every process sees all of them; test images are never among them.

    Attributes:
        views: views of the training images that pass the image tower only once (`train.views`); 0 if the method touches
            that tower.
    """

    def __init__(
        self,
        classifier: Classifier,
        splits: Splits,
        settings: FitSettings,
        reporter: Reporter | None = None,
        shared: Shared | None = None,
    ):
        self._reporter = reporter or Reporter(main_process=False)
        self._classifier = classifier
        self._classes, self._train, self._val = splits.classes, splits.train, splits.val
        self._settings = settings
        config, recipe = classifier.backbone.preprocess_config, settings.recipe
        self._plain = test_transform(config)
        self._augmented = train_transform(config, recipe.crop_scale, recipe.flip, recipe.augmentation)
        once = classifier.encodes_images_once and classifier.method.views_per_step == 1
        self.views = recipe.views if once else 0
        self._encoded: dict[int, Tensor] = {}
        self._shared = shared if classifier.encodes_images_once else None

    def epochs(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """`times` epochs of the training images in fixed order."""
        for epoch in range(times):
            if augmented and epoch < self.views:
                yield self._of_view(epoch)
            else:
                yield self._forwards(self._train, augmented, epoch)

    def passes(self, augmented: bool, times: int = 1) -> Iterator[Iterator[ForwardPass]]:
        """Deprecated: `epochs`."""
        warn_deprecated("Support.passes", "Support.epochs")
        return self.epochs(augmented, times)

    def validation(self) -> Iterator[ForwardPass]:
        """The validation images of the training classes."""
        if not self._classifier.encodes_images_once:
            yield from self._forwards(self._val, augmented=False, epoch=0)
            return
        for output, labels in self._encoded_validation:
            yield self._classifier.forward(FrozenImages.of_output(output), self._classes, labels)

    @cached_property
    def _encoded_validation(self) -> list[tuple[Tensor, Tensor]]:
        """Batches of the image tower's output for the validation images, and their labels."""
        batches = self._after_tower(self._val, augmented=False, epoch=0)
        return [(batch.images, batch.labels.to(self.device)) for batch in batches]

    @property
    def device(self) -> torch.device:
        """Device of the computation."""
        return self._classifier.device

    @property
    def labels(self) -> Tensor:
        """Labels (N,) of the training images."""
        return torch.tensor([example.label for example in self._train])

    def encoded(self, view: int) -> Tensor:
        """Output (N, ...) of the image tower for a view of the training images; computed once."""
        if view not in self._encoded:
            batches = self._after_tower(self._train, augmented=True, epoch=view)
            self._encoded[view] = torch.cat([batch.images for batch in batches])
        return self._encoded[view]

    def _of_view(self, view: int) -> Iterator[ForwardPass]:
        outputs = self.encoded(view)
        labels = self.labels.to(outputs.device)
        for part, wanted in zip(outputs.split(BATCH), labels.split(BATCH), strict=True):
            yield self._classifier.forward(FrozenImages.of_output(part), self._classes, wanted)

    def _forwards(self, examples: Sequence[Example], augmented: bool, epoch: int) -> Iterator[ForwardPass]:
        device = self._classifier.device
        if self._shared is not None:
            for batch in self._after_tower(examples, augmented, epoch):
                output = FrozenImages.of_output(batch.images)
                yield self._classifier.forward(output, self._classes, batch.labels.to(device))
            return
        for batch in self._batches(examples, augmented, epoch):
            yield self._classifier.forward(batch.images.to(device), self._classes, batch.labels.to(device))

    def _after_tower(self, examples: Sequence[Example], augmented: bool, epoch: int) -> Iterator[Batch]:
        """Batches with the output of the image tower in place of the images; runs that share it compute it once."""

        def encode() -> Iterator[Batch]:
            for batch in self._batches(examples, augmented, epoch):
                yield batch._replace(images=self._classifier.encode(batch.images.to(self.device)))

        if self._shared is None:
            return encode()
        recipe, seed = self._settings.recipe, self._settings.seed
        drawn = (seed, epoch, recipe.augmentation, recipe.crop_scale, recipe.flip) if augmented else ()
        paths = tuple(example.path for example in examples)
        return self._shared.encoded(("support", id(self._classifier.backbone), paths, drawn), encode)

    def _batches(self, examples: Sequence[Example], augmented: bool, epoch: int) -> Iterator[Batch]:
        settings, reporter = self._settings, self._reporter
        transform = self._augmented if augmented else self._plain
        batches = eval_batches(
            examples, transform, batch_size=BATCH, workers=settings.workers, seed=settings.seed, epoch=epoch
        )
        what = "validation" if examples is self._val else "training"
        with reporter.bar(f"encoding {what} images", len(examples)):
            for batch in batches:
                yield batch
                reporter.advance(batch.total)
