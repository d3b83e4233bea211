"""A method under test: built, trained and evaluated on the small random CLIP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import cached_property
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.build import make_config, method_class
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Method, Task
from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import PluginError
from vlmadapt.roles import SEEN, Role
from vlmadapt.testing.data import CLASSES, TEMPLATE, Described, Shots, bank_of
from vlmadapt.testing.tiny import tiny_clip
from vlmadapt.testing.trace import FitTrace, trace_fit
from vlmadapt.testing.training import EPOCHS, Watch, switch_off_dropout, train


class MethodUnderTest:
    """A method with its options, and the operations that checks need.

    Args:
        method: registered name, or the class itself.
        options: options of the method.
        backbone: backbone to run on; by default `tiny_clip()`.
        precision: reduced precision that its towers run in, None for full precision.

    Raises:
        PluginError: the method does not exist, is broken, or has no such option.
    """

    def __init__(
        self,
        method: str | type[Method],
        options: Mapping[str, Any] | None = None,
        backbone: Backbone | None = None,
        precision: torch.dtype | None = None,
    ):
        self.name = method if isinstance(method, str) else None
        self.cls = method_class(method) if isinstance(method, str) else method
        if not is_dataclass(getattr(self.cls, "Config", None)):
            raise PluginError(
                f"{self.cls.__name__} has no `Config`; make it a dataclass of the options, if only empty."
            )
        self.options = dict(options or {})
        self.config = make_config(self.cls, self.options)
        self._backbone = backbone
        self._precision = precision

    @property
    def backbone(self) -> Backbone:
        """The backbone to run on; the default one is made on first use."""
        return self._backbone or tiny_clip()

    @property
    def recipe(self) -> Recipe:
        """The published settings, cut to a few small steps at the full learning rate."""
        published = self.cls.recipe_for(self.config)
        return replace(
            published,
            epochs=EPOCHS if published.epochs or published.steps_per_shot else 0,
            steps_per_shot=0,
            schedule="constant",
            warmup_epochs=0,
            batch_size=4,
            precision="fp32",
        )

    def build(self, classes: Sequence[str] = CLASSES, seed: int = 0) -> Method:
        """A new, untrained method, on the backbone's device."""
        torch.manual_seed(seed)
        return self._made(classes)

    def _made(self, classes: Sequence[str]) -> Method:
        made = self.cls(make_config(self.cls, self.options), self.backbone, Task(tuple(classes), (TEMPLATE,)))
        return made.to(self.backbone.device)

    def classifier(self, method: Method, plan: str = "planned") -> Classifier:
        """The method on the backbone, ready for evaluation."""
        made = Classifier(self.backbone, method, (TEMPLATE,), plan, precision=self._precision, descriptions=Described())
        if method.draws_images:
            made.bank = bank_of(made, self.shots())
        return made

    def shots(self, classes: Sequence[str] = CLASSES, per_class: int = 4, seed: int = 0) -> Shots:
        """Labelled random images in the size of the backbone, on its device."""
        drawn = Shots.draw(classes, self.backbone.image.size, per_class, seed).with_views(self._views)
        return drawn.to(self.backbone.device)

    @cached_property
    def _views(self) -> int:
        """Views of an image in a step, which a wrapper has from the method inside."""
        with torch.random.fork_rng(devices=[]):  # a seed would count as the method's own
            return self._made(CLASSES).views_per_step

    def fit(
        self,
        classes: Sequence[str] = CLASSES,
        seed: int = 0,
        watch: Watch | None = None,
        accelerator: Accelerator | None = None,
        dropout: bool = True,
        **changes: Any,
    ) -> Classifier:
        """Build, prepare, train a few steps, finish.

        Args:
            classes: classes to train on.
            seed: seed of start values and of random numbers in training.
            watch: called after each step.
            accelerator: joins several processes; by default there is one.
            dropout: False sets all dropout probabilities to 0, since each process draws for its own images.
            changes: changed recipe settings; ignored if the published recipe has 0 epochs.
        """
        classifier = self.classifier(self.build(classes, seed))
        if not dropout:
            switch_off_dropout(classifier.method)
        recipe = self.recipe
        if recipe.epochs:
            recipe = replace(recipe, **changes)
        validation = self.shots(classes, per_class=2, seed=1)
        train(classifier, recipe, self.shots(classes), validation, watch, accelerator)
        return classifier

    @cached_property
    def trace(self) -> FitTrace:
        """Trace of the first fit."""
        return self.trace_again()

    def trace_again(self) -> FitTrace:
        """Fit once more and trace it."""
        return trace_fit(self.backbone, lambda watch: self.fit(watch=watch))

    @property
    def trained(self) -> Classifier:
        """The classifier of the first fit; checks must not change it.

        Raises:
            Exception: the error that ended the first fit.
        """
        if self.trace.error is not None:
            raise self.trace.error
        assert self.trace.classifier is not None
        return self.trace.classifier

    def scores(
        self, classifier: Classifier, classes: Sequence[str] = CLASSES, role: Role = SEEN, images: int = 4
    ) -> Tensor:
        """Scores (images, classes) of the first test images, the same at every call, as a stream of their own."""
        classifier.start_stream(classes, role)
        return classifier.scores(self.test_images(classifier.method)[:images], classes, role)

    def answers(self, classifier: Classifier, rank: int = 0, world: int = 1) -> Tensor:
        """Scores (n, classes) of a process's share of the test images, in batches; every process has a whole stream."""
        images = self.test_images(classifier.method)
        share = images if classifier.method.streams else images.tensor_split(world)[rank]
        classifier.start_stream(CLASSES, SEEN)
        return torch.cat([classifier.scores(batch, CLASSES, SEEN) for batch in share.split(3)])

    def test_images(self, method: Method) -> Tensor:
        """Test images (N, 3, H, W), or as many views of each (N, views, 3, H, W) as the method asks for."""
        images, views = self.shots(CLASSES, seed=2).images, method.test_views
        if views == 1:
            return images
        noise = torch.randn(views, *images.shape[1:], generator=torch.Generator().manual_seed(3))
        noise[0] = 0.0
        return images[:, None] + 0.5 * noise.to(images.device)
