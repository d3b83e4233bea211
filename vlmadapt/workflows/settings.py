"""Everything that decides what a run does, and the file that says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from vlmadapt.core.recipe import Recipe
from vlmadapt.data.splits import Protocol
from vlmadapt.errors import VlmadaptError, unknown


@dataclass(frozen=True)
class FitSettings:
    """Settings of a run.

    Args:
        method: registered name of the method.
        options: the method's options; what is not given keeps its published value.
        train: recipe settings; what is not given keeps the method's published value.
        data: a registered data set or a folder of images per class.
        backbone: a registered name, ARCHITECTURE:TAG or ARCHITECTURE:FILE of open_clip, a folder with a saved open_clip
            model, or hf-hub:OWNER/NAME.
        protocol: by default base-to-novel for a registered data set and few-shot for a folder.
        shots: training images per class; 0 for all.
        seed: of the drawn shots, the start values and the order.
        templates: texts with `{}` for the class name, instead of the data set's.
        classes: file with readable class names for a folder.
        plan: 'planned' computes what can differ, 'reference' everything; the results are the same.
        class_chunk: classes whose text activations are in memory at once, the others are computed again for the
            gradient; 0 for all.
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
    shots: int = 16
    seed: int = 1
    templates: list[str] | None = None
    classes: str | None = None
    plan: str = "planned"
    class_chunk: int = 0
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

        for name, number in (("shots", self.shots), ("workers", self.workers or 0)):
            if number < 0:
                raise VlmadaptError(f"{name} is {number}, it cannot be below 0.")
        cls = method_class(self.method)
        options = asdict(make_config(cls, self.options))
        recipe = make_recipe(cls.recipe, self.train)
        protocol: Protocol = self.protocol or ("few-shot" if Path(self.data).is_dir() else "base-to-novel")
        name = Path(self.data).resolve().name if Path(self.data).is_dir() else self.data
        shots = f"{self.shots}shot" if self.shots else "allshots"
        out = self.out or str(Path("runs") / f"{self.method}-{name}-{protocol}-{shots}-seed{self.seed}")
        return replace(self, options=options, train=asdict(recipe), protocol=protocol, out=out)

    @property
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
    for name, least in (("epochs", 0), ("batch_size", 1), ("lr", 0), ("warmup_epochs", 0), ("weight_decay", 0)):
        if getattr(recipe, name) < least:
            raise VlmadaptError(f"train.{name} is {getattr(recipe, name)}, it cannot be below {least}.")
    return recipe
