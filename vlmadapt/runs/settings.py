"""Everything that decides what a run does, and the file that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from vlmadapt.core.recipe import Recipe
from vlmadapt.data.splits import TRANSFER, Protocol
from vlmadapt.errors import VlmadaptError, unknown


@dataclass(frozen=True)
class FitSettings:
    """Settings of a run.

    Args:
        method: registered name of the method.
        options: the method's options; what is not given keeps its published value.
        train: recipe settings; what is not given keeps the method's published value.
        data: a registered data set, a folder of images per class, a CSV or JSONL file with path, label and split, or
            hf:NAME for a data set of the Hugging Face Hub.
        backbone: a registered name, ARCHITECTURE:TAG or ARCHITECTURE:FILE of open_clip, a folder with a saved open_clip
            model, or hf-hub:OWNER/NAME.
        protocol: by default custom with class_split, cross-dataset with targets, else base-to-novel for a registered
            data set and few-shot for your own.
        targets: data sets, with commas between, that cross-dataset and domain-generalization test on besides; by
            default those that the data set is published with.
        class_split: YAML file with the lists `seen` and `unseen` of class names, for the protocol custom.
        data_root: folder that registered data sets lie in; by default $VLMADAPT_DATA.
        shots: training images per class; 0 for all.
        val_shots: validation images per class for methods that choose by them, never more than shots; 0 for all.
        seed: of the drawn shots, the start values and the order.
        templates: a list of texts with `{}` for the class name, instead of the data set's; short: --template TEXT, once
            or more.
        classes: file with readable class names for a folder.
        plan: 'planned' computes what can differ, 'reference' everything; the results are the same.
        class_chunk: classes whose text activations are in memory at once, the others are computed again for the
            gradient; 0 for all.
        compile: have torch compile the backbone's blocks; takes a minute at the start and a C++ compiler.
        skip_corrupt: leave broken images out instead of refusing to start.
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
    plan: str = "planned"
    class_chunk: int = 0
    compile: bool = False
    skip_corrupt: bool = False
    workers: int | None = None
    out: str | None = None

    def resolved(self) -> FitSettings:
        """The same with every default filled in, so that it can be repeated when defaults have changed.

        Raises:
            PluginError: the method or one of its options is unknown.
            VlmadaptError: a setting makes no sense.
        """
        from vlmadapt.core.build import make_config, method_class
        from vlmadapt.data.load import short_name

        numbers = {"shots": self.shots, "val_shots": self.val_shots, "workers": self.workers or 0, "seed": self.seed}
        for name, number in numbers.items():
            if not 0 <= number < 2**63:
                raise VlmadaptError(f"{name} is {number}, it cannot be {'below 0' if number < 0 else 'so large'}.")
        cls = method_class(self.method)
        options = asdict(make_config(cls, self.options))
        recipe = make_recipe(cls.recipe, self.train)
        protocol = self.protocol or self._usual_protocol()
        targets = self.targets if self.targets or protocol not in TRANSFER else self._usual_targets(protocol)
        shots = f"{self.shots}shot" if self.shots else "allshots"
        name = f"{self.method}-{short_name(self.data)}-{protocol}-{shots}-seed{self.seed}"
        out = self.out or str(Path("runs") / name)
        return replace(self, options=options, train=asdict(recipe), protocol=protocol, targets=targets, out=out)

    @property
    def target_names(self) -> list[str]:
        """The data sets in `targets`."""
        return [name.strip() for name in (self.targets or "").split(",") if name.strip()]

    def _usual_protocol(self) -> Protocol:
        from vlmadapt.data.load import is_registered

        if self.class_split:
            return "custom"
        if self.targets:
            return "cross-dataset"
        return "base-to-novel" if is_registered(self.data) else "few-shot"

    def _usual_targets(self, protocol: Protocol) -> str | None:
        from vlmadapt.data.load import is_registered
        from vlmadapt.data.registered import find_source

        names = find_source(self.data).targets.get(protocol, ()) if is_registered(self.data) else ()
        return ",".join(names) or None

    @cached_property
    def recipe(self) -> Recipe:
        """The training settings."""
        from vlmadapt.core.build import method_class

        return make_recipe(method_class(self.method).recipe, self.train)

    def to_config(self) -> dict[str, Any]:
        """As it is written to a YAML file that `fit --config` reads."""
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("method", "options", "train")}
        train = {key: list(value) if isinstance(value, tuple) else value for key, value in self.train.items()}
        return {"method": {"name": self.method, **self.options}, "train": train, **content}

    @classmethod
    def from_config(cls, content: Mapping[str, Any]) -> FitSettings:
        """The settings that `to_config` wrote."""
        rest = dict(content)
        method = dict(rest.pop("method"))
        return cls(method=method.pop("name"), options=method, **rest)


def make_recipe(published: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """A recipe with some settings changed.

    Raises:
        VlmadaptError: a setting is unknown or makes no sense.
    """
    known = {f.name for f in fields(Recipe)}
    for name in changes:
        if name not in known:
            raise VlmadaptError(unknown("training setting", name, known))
    pairs: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
    if "epochs" in pairs and "steps_per_shot" not in pairs:
        pairs["steps_per_shot"] = 0  # whoever asks for epochs means epochs
    recipe = replace(published, **pairs)
    for name in ("epochs", "batch_size", "lr", "warmup_epochs", "warmup_lr", "weight_decay", "momentum", "eps"):
        least = int(name == "batch_size")
        if getattr(recipe, name) < least:
            raise VlmadaptError(f"train.{name} is {getattr(recipe, name)}, it cannot be below {least}.")
    if not all(0 <= beta < 1 for beta in recipe.betas):
        raise VlmadaptError(f"train.betas are {recipe.betas}; both have to be from 0 to below 1.")
    return recipe
