"""Accuracy of a classifier on groups of classes and on other data sets."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmadapt.core.captured_scores import Scorer, scorer
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.encode_images import FrozenImages
from vlmadapt.data.classes import folded
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.feed import Feed
from vlmadapt.data.loader import Batch, derived_seed, eval_batches
from vlmadapt.data.splits import ClassGroup, group_sha256
from vlmadapt.data.transforms import test_transform
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.evaluation.by_class import class_scores
from vlmadapt.evaluation.independence import Independence
from vlmadapt.roles import Role
from vlmadapt.runs.session import Session
from vlmadapt.runs.shared import Shared

BATCH = 128


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on a group of classes.

    Attributes:
        name: name of the group.
        role: role of the classes that the inference router was given.
        correct: number of images classified correctly.
        total: number of images.
        classes: accuracy of each class from 0 to 1; None for a class without images.
        seconds: time spent, image loading included.
        data_sha256: hash of the classes, role, files and labels that were tested.
        confusion: number of images by actual and predicted class, see `vlmadapt.evaluation.by_class`.
    """

    name: str
    role: Role
    correct: int
    total: int
    classes: dict[str, float | None]
    seconds: float
    data_sha256: str = ""
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def percent(self) -> float:
        """Accuracy over images, in percent."""
        return 100.0 * self.correct / max(self.total, 1)

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in percent: each class is as likely as any other."""
        return 100.0 / max(len(self.classes), 1)

    def to_json(self) -> dict[str, Any]:
        """All fields, with precision, recall and F1 of each class."""
        return {**vars(self), "by_class": {name: asdict(s) for name, s in class_scores(self.confusion).items()}}


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b), 0 where both are 0."""
    return 2 * a * b / (a + b) if a + b else 0.0


@dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier for every test image of a group, in the order of the group's examples.

    Attributes:
        group: classes and images.
        predicted: (images,) index of the predicted class.
        confidence: (images,) its probability.
        seconds: time spent, image loading included.
        zero_shot: (images,) index of the class that the frozen backbone predicts; None if it was not tested.
    """

    group: ClassGroup
    predicted: Tensor
    confidence: Tensor
    seconds: float
    zero_shot: Tensor | None = None

    @property
    def zero_shot_percent(self) -> float | None:
        """Accuracy of the frozen backbone, in percent; None if it was not tested."""
        return None if self.zero_shot is None else 100.0 * (self.zero_shot == self._labels).double().mean().item()

    @property
    def _labels(self) -> Tensor:
        return torch.tensor([example.label for example in self.group.examples])

    def accuracy(self) -> Accuracy:
        """Accuracy over all images and of each class."""
        classes, labels = self.group.classes, self._labels
        seen = labels.bincount(minlength=len(classes))
        right = labels[self.predicted == labels].bincount(minlength=len(classes))
        pairs = zip(distinct(classes), right.tolist(), seen.tolist(), strict=True)
        by_class = {name: (r / n if n else None) for name, r, n in pairs}
        digest = group_sha256(self.group)
        counts = _confusion(distinct(classes), labels, self.predicted)
        correct = int(right.sum())
        return Accuracy(self.group.name, self.group.role, correct, len(labels), by_class, self.seconds, digest, counts)

    def to_json(self) -> dict[str, Any]:
        """The content of a run's `answers.json`: class index and probability of each image."""
        confidence = [round(value, 4) for value in self.confidence.tolist()]
        return {"name": self.group.name, "chosen": self.predicted.tolist(), "confidence": confidence}


def evaluate_group(classifier: Classifier, group: ClassGroup, session: Session, seed: int = 0) -> Accuracy:
    """Accuracy on all test images of a group."""
    return predict_group(classifier, group, session, seed=seed).accuracy()


def _confusion(names: Sequence[str], labels: Tensor, predicted: Tensor) -> dict[str, dict[str, int]]:
    """Number of images by actual and predicted class."""
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    pairs, counts = (labels * len(names) + predicted).unique(return_counts=True)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        actual, chosen = divmod(pair, len(names))
        found[names[actual]][names[chosen]] = count
    return found


def predict_group(
    classifier: Classifier, group: ClassGroup, session: Session, *, zero_shot: bool = False, seed: int = 0
) -> Predictions:
    """Predict every test image of a group once, spread over the processes; each process gets all predictions.

    A method with `streams` is given all images in each process, one after another: what it answers must not depend on
    the number of processes. The answers of the main process count.

    Args:
        classifier: the method on its backbone.
        group: classes and images.
        session: the processes.
        zero_shot: predict with the frozen backbone too, which takes the blocks of the image tower that the method
            touches once more.
        seed: seed of the order of a stream, and of random views of test images.

    Raises:
        PluginError: answers depend on the images before, and the method does not say so.
    """
    began = time.perf_counter()
    shared = _shared(classifier, session)
    key = ("test", id(classifier.backbone), tuple(example.path for example in group.examples))
    kept_seconds = shared.seconds(key) if shared else 0.0
    if group.templates is not None:
        classifier = classifier.with_templates(group.templates)
    classifier.start_stream(group.classes, group.role)
    batches = _batches(classifier, group, session, seed)
    fed = Feed(classifier.device)(batches)
    if shared is not None:
        fed = shared.encoded(key, lambda: _encoded(classifier, batches))
    with session.reporter.bar(f"testing {group.name}", len(group.examples)):
        found = _predict_all(classifier, group, fed, session, zero_shot, encoded=shared is not None)
    if classifier.method.streams and not session.main:
        found.zero_()
    # Each image is predicted by one process; its columns are zero in all others.
    predicted, confidence, frozen = session.accelerator.reduce(found.to(classifier.device), "sum").cpu()
    seconds = kept_seconds + time.perf_counter() - began
    return Predictions(group, predicted.long(), confidence, seconds, frozen.long() if zero_shot else None)


def _shared(classifier: Classifier, session: Session) -> Shared | None:
    """Where image features are shared between runs, for methods that take each image once, as the tower gives it."""
    method = classifier.method
    alone = method.streams or method.test_views > 1 or not classifier.encodes_images_once
    return None if alone else session.shared


def _batches(classifier: Classifier, group: ClassGroup, session: Session, seed: int) -> Iterator[Batch]:
    """This process's share of the test images, in batches; indices are those of the group's examples."""
    method, accelerator = classifier.method, session.accelerator
    rank, world = accelerator.process_index, accelerator.num_processes
    order = list(range(len(group.examples)))
    if method.streams:  # data sets list their images by class
        rank, world = 0, 1
        order = torch.randperm(len(order), generator=torch.Generator().manual_seed(derived_seed(seed))).tolist()
    examples = [group.examples[i] for i in order]
    transform = test_transform(classifier.backbone.preprocess_config, method.test_views, method.test_augmentation)
    size = max(BATCH // method.test_views, 1) * world
    for batch in eval_batches(examples, transform, size, rank, world, session.workers, seed=seed):
        yield batch._replace(indices=torch.tensor(order)[batch.indices])


def _encoded(classifier: Classifier, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same batches after the image tower, see `Classifier.encode`."""
    for batch in Feed(classifier.device)(batches):
        yield batch._replace(images=classifier.encode(batch.images)) if len(batch.indices) else batch


def _predict_all(
    classifier: Classifier,
    group: ClassGroup,
    batches: Iterable[Batch],
    session: Session,
    zero_shot: bool,
    *,
    encoded: bool,
) -> Tensor:
    """Class index, confidence and zero-shot class index (3, images) of this process's images, zero for all others.

    They stay on the device until the last batch is launched, so that the host waits for no batch.

    Raises:
        VlmadaptError: scores are not finite.
        PluginError: answers depend on the images before, and the method does not say so.
    """
    found: list[Tensor] = []
    places: list[Tensor] = []
    independence = Independence(classifier, group)
    with nullcontext() if classifier.method.streams else classifier.unchanged():
        score = _scorer(classifier, group, zero_shot, encoded)
        for batch in batches:
            if len(batch.indices):
                scores = score(batch.images)
                given = FrozenImages.of_output(batch.images) if encoded else batch.images
                independence.note(given, scores[:, : len(group.classes)])
                found.append(_predicted(scores, len(group.classes)))
                places.append(batch.indices)
            session.reporter.advance(batch.total)
    whole = torch.zeros(3, len(group.examples), dtype=torch.float64)
    if found:
        whole[:, torch.cat(places)] = torch.cat(found, dim=1).cpu()
    if not whole.isfinite().all():
        raise VlmadaptError(
            f"scores of the images of '{group.name}' are not finite numbers, so no class can be chosen; in fp16 a "
            "backbone may overflow: use --precision fp32 (of `fit`: --train.precision fp32)."
        )
    independence.check()
    return whole


def _predicted(scores: Tensor, classes: int) -> Tensor:
    """Class index, confidence and zero-shot class index (3, B) of what `scorer` gives.

    Without zero-shot logits the last is the class index again.
    """
    own, zero_shot = scores[:, :classes], scores[:, -classes:]
    confidence = own.softmax(dim=-1).amax(dim=-1)
    return torch.stack((own.argmax(dim=-1).double(), confidence.double(), zero_shot.argmax(dim=-1).double()))


def _scorer(classifier: Classifier, group: ClassGroup, zero_shot: bool, encoded: bool) -> Scorer:
    """Scores of a group's classes for images, or for what the image tower gave for them."""
    classes, role = group.classes, group.role
    if not encoded:
        return scorer(classifier, classes, role, zero_shot=zero_shot)
    if zero_shot:
        return lambda out: torch.cat(classifier.scores_and_zero_shot(FrozenImages.of_output(out), classes, role), dim=1)
    return lambda out: classifier.scores(FrozenImages.of_output(out), classes, role)


def role_of(classes: Sequence[str], trained: Sequence[str]) -> Role:
    """The role of classes: seen if all of them were trained on, unseen if none was, else unknown.

    A name that reads like one that was trained on (see `alike`) is the same class: `Sea_lion` and `sea lion`.
    """
    known = set(map(folded, trained))
    seen = [folded(name) in known for name in classes]
    if all(seen):
        return Role.SEEN
    return Role.UNKNOWN if any(seen) else Role.UNSEEN


def distinct(classes: Sequence[str]) -> list[str]:
    """Names made unique: ImageNet has 'missile' twice, the second becomes 'missile (2)'."""
    count: Counter[str] = Counter()
    found = []
    for name in classes:
        count[name] += 1
        found.append(name if count[name] == 1 else f"{name} ({count[name]})")
    return found


def group_of(data: Dataset, trained: Sequence[str], role: Role | None = None) -> ClassGroup:
    """All test images of a data set as one group, described with the data set's own templates.

    Args:
        data: data set to test on.
        trained: names of the classes that were trained on.
        role: role given to the inference router; by default it follows from the class names.

    Raises:
        DataError: there are no test images.
    """
    if not data.test:
        raise DataError(f"data set '{data.name}' has no test images.")
    return ClassGroup(data.name, role or role_of(data.classes, trained), data.classes, data.test, data.templates)


def summary(accuracies: Sequence[Accuracy]) -> dict[str, Any]:
    """Accuracy of each group in percent with the means of `with_means`."""
    return with_means({a.name: a.percent for a in accuracies})


def with_means(percent: Mapping[str, float]) -> dict[str, float]:
    """Accuracies in percent, rounded, with the harmonic mean of base and novel, or the mean over targets.

    The first group is from the training data. The others are targets, except 'novel', which is from the same data.
    """
    found = {name: round(value, 4) for name, value in percent.items()}
    if {"base", "novel"} <= found.keys():
        found["harmonic_mean"] = round(harmonic_mean(found["base"], found["novel"]), 4)
        return found
    targets = list(percent.values())[1:]
    if len(targets) > 1:
        found["target_average"] = round(sum(targets) / len(targets), 4)
    return found
