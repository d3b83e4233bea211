"""Settings of a run, and their form in `config.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from vlmadapt.core.build import MethodSpec
from vlmadapt.core.recipe import Recipe
from vlmadapt.data.load import is_registered, short_name
from vlmadapt.data.registered import find_source
from vlmadapt.data.splits import TRANSFER, Protocol
from vlmadapt.errors import SettingError
from vlmadapt.validation import check_range, validate, validated

LARGEST = 2**63 - 1
"""Largest seed of torch's generators."""


@dataclass(frozen=True)
class FitSettings:
    """Settings of a run.

    Args:
        method: registered name of the method.
        options: options of the method; missing ones keep their published values.
        train: training settings; missing ones keep the method's published values.
        data: registered data set, folder with a folder of images per class, CSV, TSV or JSONL file with path, label and
            split, or hf:OWNER/NAME for a data set of the Hugging Face Hub.
        backbone: registered name, ARCHITECTURE:TAG or ARCHITECTURE:FILE of open_clip, folder of an open_clip or
            transformers model, or one on the Hub: hf-hub:OWNER/NAME for open_clip, hf:OWNER/NAME for transformers.
        protocol: evaluation protocol; by default custom with class_split, cross-dataset with targets,
            base-to-novel for a registered data set, and few-shot for your own.
        targets: data sets, separated by commas, that cross-dataset and domain-generalization also test on; by default
            those that the data set is published with.
        class_split: YAML file with the lists `seen` and `unseen` of class names, for the protocol custom.
        data_root: folder that contains registered data sets; by default $VLMADAPT_DATA.
        shots: training images per class; 0 for all.
        val_shots: validation images per class for methods that use them, never more than shots; 0 for all.
        seed: seed of the drawn shots, the start values and the order of images.
        templates: list of texts with `{}` for the class name, instead of the data set's; short: --template TEXT, once
            or more.
        classes: file with readable class names for a folder.
        descriptions: file with sentences for each class, for methods that read them, instead of the data set's own;
            `vlmadapt describe` writes one.
        recursive: read nested folders: each folder with images is a class, named by its path (`animals/cat`).
        columns: names of a table's columns where they are not path, label and split, like path=image,label=species.
        plan: 'planned' computes only what differs from the frozen backbone, 'reference' everything; results are the
            same.
        class_chunk: number of classes whose text activations are in memory at once, the others are recomputed for the
            gradient; 0 for all.
        step: 'captured' replays the whole training step as a CUDA graph, 'eager' runs it operation by operation; by
            default captured on CUDA if the method's step allows it.
        compile: compile the backbone's blocks with torch; takes a minute at the start and a C++ compiler.
        select: 'last' keeps the last epoch, as published; 'best' keeps the one with the highest accuracy on the
            validation images, which are tested after each epoch.
        zero_shot: test the frozen backbone on the same images too, to compare with; takes the blocks of the image tower
            that the method touches once more for each test image.
        skip_corrupt: leave broken images out instead of refusing to start.
        track: tracker that gets the numbers of each epoch and of the test, one of Accelerate's: tensorboard, wandb,
            mlflow, trackio, aim, ...; several with commas between. TensorBoard, Weights & Biases and Aim write to
            `tracking` in the run folder.
        augment: 'host' crops, resizes and flips training images as published code does, in the processes that load
            them; 'device' takes the same crops and resizes them where the model runs, which differs by rounding.
        workers: processes that load images; by default what suits the machine.
        out: run folder; by default `runs/METHOD-DATA-PROTOCOL-SHOTSshot-seedSEED`.
    """

    method: str
    options: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    data: str = "openmoji"
    backbone: str = "tiny"
    protocol: Protocol | None = None
    targets: str | None = None
    class_split: str | None = None
    data_root: str | None = None
    shots: int = 16
    val_shots: int = 0
    seed: int = 1
    templates: list[str] | None = None
    classes: str | None = None
    descriptions: str | None = None
    recursive: bool = False
    columns: str | None = None
    plan: Literal["planned", "reference"] = "planned"
    class_chunk: int = 0
    step: Literal["eager", "captured"] | None = None
    compile: bool = False
    select: Literal["last", "best"] = "last"
    zero_shot: bool = True
    skip_corrupt: bool = False
    track: str | None = None
    augment: Literal["host", "device"] = "host"
    workers: int | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        """Refuse values of a wrong type or out of range.

        Raises:
            SettingError: the message names the setting and its valid values.
        """
        validate(self)
        for name in ("shots", "val_shots", "seed", "class_chunk", "workers"):
            check_range(name, getattr(self, name) or 0, 0, LARGEST)

    def resolved(self) -> FitSettings:
        """The same settings with every default filled in, so that the run can be repeated when defaults change.

        Raises:
            PluginError: the method is unknown or broken.
            SettingError: an option of the method or a training setting has a value that it cannot have.
        """
        if self.augment == "device" and self.recipe.augmentation != "crop":
            raise SettingError(
                f"--augment device makes crops and flips alone; leave it out, or give up '{self.recipe.augmentation}' "
                "by --train.augmentation crop."
            )
        return replace(self.with_names(), options=self.spec.options, train=asdict(self.recipe))

    def with_names(self) -> FitSettings:
        """The same settings with the protocol, the targets and the run folder filled in."""
        protocol = self.protocol or self._usual_protocol()
        targets = self.targets if self.targets or protocol not in TRANSFER else self._usual_targets(protocol)
        shots = f"{self.shots}shot" if self.shots else "allshots"
        name = f"{self.method}-{short_name(self.data)}-{protocol}-{shots}-seed{self.seed}"
        return replace(self, protocol=protocol, targets=targets, out=self.out or str(Path("runs") / name))

    @property
    def target_names(self) -> list[str]:
        """Names in `targets`."""
        return _listed(self.targets)

    @property
    def tracker_names(self) -> list[str]:
        """Names in `track`."""
        return _listed(self.track)

    def _usual_protocol(self) -> Protocol:
        if self.class_split:
            return "custom"
        if self.targets:
            return "cross-dataset"
        return "base-to-novel" if is_registered(self.data) else "few-shot"

    def _usual_targets(self, protocol: Protocol) -> str | None:
        names = find_source(self.data).targets.get(protocol, ()) if is_registered(self.data) else ()
        return ",".join(names) or None

    @cached_property
    def spec(self) -> MethodSpec:
        """The method with its validated options.

        Raises:
            PluginError: the method is unknown or broken.
            SettingError: an option is unknown, or has a value that it cannot have.
        """
        return MethodSpec.make(self.method, self.options)

    @cached_property
    def recipe(self) -> Recipe:
        """The training settings.

        Raises:
            PluginError: the method is unknown or broken.
            SettingError: a training setting is unknown, or has a value that it cannot have.
        """
        return make_recipe(self.spec.recipe, self.train)

    def to_config(self) -> dict[str, Any]:
        """Content of the YAML file that `fit --config` reads."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("method", "options", "train")}
        train = {key: list(value) if isinstance(value, tuple) else value for key, value in self.train.items()}
        return {"method": {"name": self.method, **self.options}, "train": train, **content}

    @classmethod
    def from_config(cls, content: Mapping[str, Any]) -> FitSettings:
        """Settings from the content that `to_config` returned."""
        rest = dict(content)
        method = dict(rest.pop("method"))
        return cls(method=method.pop("name"), options=method, **rest)


def _listed(names: str | None) -> list[str]:
    """Names between commas."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def make_recipe(published: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings changed; `epochs` alone also switches `steps_per_shot` off.

    Raises:
        SettingError: a setting is unknown, or has a value that it cannot have.
    """
    values = validated(Recipe, changes, "training setting", "train.")
    if "epochs" in values:
        values.setdefault("steps_per_shot", 0)  # given epochs take precedence over published steps
    return replace(published, **values)
