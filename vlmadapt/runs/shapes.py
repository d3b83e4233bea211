"""Shapes of the JSON files of a run folder."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from vlmadapt.data.dataset import UNLABELLED


class TestedGroup(TypedDict):
    """A group of classes in `data.json`.

    Attributes:
        name: name of the group.
        role: role that the inference router is given.
        classes: class names in label order.
        templates: texts that describe the classes, of targets only.
        examples: file and label of each test image.
    """

    name: str
    role: Literal["seen", "unseen", "unknown"]
    classes: list[str]
    templates: NotRequired[list[str]]
    examples: list[list[str | int]]


class DataFile(TypedDict):
    """`data.json`: images of a run.

    Attributes:
        sha256: hash of all that follows.
        classes: names of the classes trained on.
        train: file and label of each training image.
        val: the same of the validation images.
        test: tested groups.
        descriptions_sha256: hash of the class descriptions, where there are any.
    """

    sha256: str
    classes: list[str]
    train: NotRequired[list[list[str | int]]]
    val: NotRequired[list[list[str | int]]]
    test: list[TestedGroup]
    descriptions_sha256: NotRequired[str]


class MadeBy(TypedDict):
    """The plugin that provides a method."""

    name: str
    distribution: str
    version: str


class EnvironmentFile(TypedDict):
    """`environment.json`: versions and machine.

    Attributes:
        python: version of Python.
        gpu: name of the GPU, null without one.
        threads: threads of torch.
        libraries: version of each library.
        method: plugin of the method.
        paths: places of data and backbone relative to the run folder, by setting.
    """

    python: str
    gpu: str | None
    threads: int
    libraries: dict[str, str]
    method: NotRequired[MadeBy]
    paths: NotRequired[dict[str, str]]


class ClassResult(TypedDict):
    """Scores of a class, see `vlmadapt.evaluation.by_class`."""

    images: int
    precision: float | None
    recall: float | None
    f1: float | None


class GroupResult(TypedDict):
    """Accuracy on a group of classes."""

    name: str
    correct: int
    total: int
    classes: dict[str, float | None]
    confusion: NotRequired[dict[str, dict[str, int]]]
    by_class: NotRequired[dict[str, ClassResult]]


class ResultFile(TypedDict):
    """`result.json`: the final numbers of a run; accuracies are in percent by group."""

    accuracy: dict[str, float]
    chance: NotRequired[dict[str, float]]
    zero_shot: NotRequired[dict[str, float]]
    selected_epoch: NotRequired[int]
    track: NotRequired[str]
    trainable_parameters: int
    steps: int
    seconds_per_step: float | None
    test_images_per_second: float
    peak_memory_bytes: float
    data_sha256: str
    data_notes: NotRequired[list[str]]
    groups: NotRequired[list[GroupResult]]
    files: NotRequired[dict[str, str]]


class GroupAnswers(TypedDict):
    """Answers to the images of a group, in the order of `data.json`."""

    name: str
    chosen: list[int]
    confidence: list[float]


class CalibrationFile(TypedDict):
    """`calibration.json`, see `vlmadapt.evaluation.calibration.Calibration`."""

    temperature: float
    images: int
    probability: list[float]
    energy: list[float]
    method: NotRequired[list[float]]


class Epoch(TypedDict):
    """Logged numbers of an epoch; more keys are losses by name."""

    epoch: int
    loss: NotRequired[float]
    train_accuracy: NotRequired[float]
    val_accuracy: NotRequired[float]


def check_data(content: Any) -> None:
    """What the shape alone does not say about `data.json`: pairs of file and label, labels of existing classes.

    Raises:
        ValueError: an image has another form.
    """
    parts = [(content.get("train", []), content["classes"], UNLABELLED)]
    parts += [(content.get("val", []), content["classes"], 0)]
    parts += [(group["examples"], group["classes"], 0) for group in content["test"]]
    for examples, classes, least in parts:
        for example in examples:
            if not _is_example(example, least, len(classes)):
                raise ValueError(f"{example!r:.80} is no image with a label")
    if not all(group["examples"] and group["classes"] for group in content["test"]):
        raise ValueError("a tested group lists no images")


def _is_example(example: list[str | int], least: int, classes: int) -> bool:
    if len(example) != 2:
        return False
    file, label = example
    return isinstance(file, str) and isinstance(label, int) and least <= label < classes
