"""Settings of a comparison, and the grid of runs they ask for: methods x data sets x shots x seeds."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from vlmadapt.compare.recipes import MethodSettings, RecipeName, find_recipe
from vlmadapt.core.build import MethodSpec, method_class
from vlmadapt.core.recipe import Recipe
from vlmadapt.data.load import short_name
from vlmadapt.data.splits import Protocol
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.places import absolute
from vlmadapt.runs.settings import FitSettings, make_recipe
from vlmadapt.runs.settings_files import method_name
from vlmadapt.validation import validate

TRAINED_LIKE = {
    "all-classes": {"base-to-novel"},
    "cross-dataset": {"few-shot"},
    "domain-generalization": {"few-shot", "cross-dataset"},
}
"""Protocols that train like others and differ in what they test."""

IRRELEVANT = ("out", "workers", "data_root", "zero_shot", "track")
"""Settings that results do not depend on."""


@dataclass(frozen=True)
class CompareSettings:
    """Settings of a comparison.

    Args:
        methods: registered names; the first is the reference that the others are compared with.
        data: registered data sets, or folders with one subfolder of images per class.
        protocol: evaluation protocol of every run.
        seeds: seeds of every method on every data set.
        targets: data sets, separated by commas, that cross-dataset and domain-generalization test on.
        class_split: YAML file with the lists `seen` and `unseen` of class names, for the protocol custom.
        descriptions: file with sentences for each class, for methods that read them.
        data_root: folder of the registered data sets; by default $VLMADAPT_DATA.
        shots: training images per class; several numbers give few-shot curves.
        val_shots: validation images per class for methods that use them, never more than shots; 0 for all.
        backbone: backbone of every run.
        recipe: 'uniform' for one setting on everything, 'paper' for the settings published for protocol and data set; a
            method without such settings uses its defaults.
        method_configs: settings files of `fit` that replace the recipe of the method they name; of several for one
            method, later files win key by key.
        train: training settings for all methods, over those of recipes and files.
        reuse: folders with runs to be reused if settings and data agree.
        skip_corrupt: skip broken images instead of refusing to start.
        workers: processes that load images, in each run.
        out: folder of the comparison; by default `runs/compare-DATA-PROTOCOL-RECIPE`.
    """

    methods: list[str]
    data: list[str] = field(default_factory=lambda: ["openmoji"])
    protocol: Protocol = "base-to-novel"
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    targets: str | None = None
    class_split: str | None = None
    descriptions: str | None = None
    data_root: str | None = None
    shots: list[int] = field(default_factory=lambda: [16])
    val_shots: int = 0
    backbone: str = "tiny"
    recipe: RecipeName = "uniform"
    method_configs: list[str] = field(default_factory=list)
    train: dict[str, Any] = field(default_factory=dict)
    reuse: list[str] = field(default_factory=list)
    skip_corrupt: bool = False
    workers: int | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        """Refuse values of a wrong type.

        Raises:
            SettingError: the message names the setting and its valid values.
        """
        validate(self)

    @property
    def folder(self) -> Path:
        """Folder of the comparison."""
        names = "+".join(data_name(data) for data in self.data)
        return Path(self.out or Path("runs") / f"compare-{names}-{self.protocol}-{self.recipe}")

    def to_json(self) -> dict[str, Any]:
        """Content for `comparison.json`."""
        return asdict(self)

    def check(self) -> None:
        """Validate lists and settings files.

        Raises:
            VlmadaptError: a list is empty or has an entry twice, or a settings file is for a method not compared.
        """
        for name in ("methods", "data", "seeds", "shots"):
            values = getattr(self, name)
            if not values:
                raise VlmadaptError(f"--{name} is empty; name at least one.")
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise VlmadaptError(f"--{name} names '{twice[0]}' twice.")
        if self.protocol == "train-only":
            raise VlmadaptError("protocol 'train-only' tests nothing, so that there is nothing to compare.")
        for path in self.method_configs:
            if method_name(Path(path)) not in self.methods:
                raise VlmadaptError(f"'{path}' is for '{method_name(Path(path))}', which is not among --methods.")


@dataclass(frozen=True)
class RunSpec:
    """One run of the grid.

    Attributes:
        settings: resolved settings, except for the folder.
        seed: seed of the grid; that of the settings unless the method learns nothing.
        shots: training images per class of the grid; those of the settings unless the method learns nothing.
        recipe: settings files of the method's recipe; none means the method's defaults.
        note: differences between the recipe and the published one.
    """

    settings: FitSettings
    seed: int
    shots: int
    recipe: tuple[str, ...]
    note: str = ""

    @property
    def title(self) -> str:
        """Name of the run in messages."""
        s = self.settings
        start = f"{s.method} on {data_name(s.data)}"
        return f"{start}, {shots_text(s.shots)}, seed {s.seed}" if method_class(s.method).learns else start

    def folder_name(self, fingerprint: str) -> str:
        """Name of the run folder."""
        s = self.settings
        name = f"{s.method}-{data_name(s.data)}-{s.shots or 'all'}shot-seed{s.seed}-{fingerprint[:8]}"
        return re.sub(r"[^\w.+-]", "-", name)


def run_specs(settings: CompareSettings) -> Iterator[RunSpec]:
    """The grid, seed by seed, so that an interrupted comparison has results of every method.

    A method that learns nothing has the same settings, those of the first seed and number of shots, everywhere.

    Raises:
        VlmadaptError: a method or one of its settings is unknown.
    """
    grid = [_run_spec(settings, *at) for at in product(settings.data, settings.shots, settings.methods)]
    for seed in settings.seeds:
        for spec in grid:
            learns = method_class(spec.settings.method).learns
            yield replace(spec, seed=seed, settings=replace(spec.settings, seed=seed) if learns else spec.settings)


def _run_spec(settings: CompareSettings, data: str, shots: int, method: str) -> RunSpec:
    """A run with the first seed."""
    seed = settings.seeds[0]
    drawn = shots if method_class(method).learns else settings.shots[0]
    own = {path: Path(path) for path in settings.method_configs if method_name(Path(path)) == method}
    recipe = MethodSettings.read(own) if own else find_recipe(method, settings.recipe, data, settings.protocol, shots)
    published = make_recipe(MethodSpec.make(method, recipe.options).recipe, recipe.train)
    changes = _common_changes(published, settings.train)
    run = FitSettings(
        method=method,
        options=recipe.options,
        train={**recipe.train, **changes},
        data=data,
        backbone=settings.backbone,
        protocol=settings.protocol,
        targets=settings.targets,
        class_split=settings.class_split,
        descriptions=settings.descriptions,
        data_root=settings.data_root,
        shots=drawn,
        val_shots=settings.val_shots,
        seed=seed,
        zero_shot=False,  # zero-shot CLIP is a method of its own here, and test times are compared
        skip_corrupt=settings.skip_corrupt,
        workers=settings.workers,
        out="run",
    )
    notes = [*_published_for(recipe, settings.protocol, shots), *_shortened(published, changes, settings.train)]
    return RunSpec(run.resolved(), seed, shots, recipe.files, "; ".join(notes))


def _common_changes(published: Recipe, common: Mapping[str, Any]) -> dict[str, Any]:
    """Training settings for all methods, as they apply to one recipe.

    Common epochs replace a number of steps and shorten the warm-up in proportion; a method that is solved rather than
    trained ignores them.
    """
    changes = dict(common)
    if "epochs" not in changes:
        return changes
    if not (published.epochs or published.steps_per_shot):
        del changes["epochs"]
        return changes
    changes.setdefault("steps_per_shot", 0)
    if isinstance(changes["epochs"], int):  # anything else is refused with the recipe
        changes.setdefault("warmup_epochs", published.shortened_warmup(changes["epochs"]))
    return changes


def _published_for(recipe: MethodSettings, protocol: str, shots: int) -> Iterator[str]:
    """A note if the recipe was published for another protocol or number of shots."""
    used = {"protocol": {protocol, *TRAINED_LIKE.get(protocol, ())}, "shots": {shots}}
    differs = [f"{value} {key}" if key == "shots" else str(value)
               for key, value in recipe.made_for.items() if value not in used[key]]  # fmt: skip
    if differs:
        yield f"recipe published for {', '.join(differs)}"


def _shortened(published: Recipe, changes: Mapping[str, Any], common: Mapping[str, Any]) -> Iterator[str]:
    """A note if common epochs shortened the warm-up."""
    warmup = changes.get("warmup_epochs", published.warmup_epochs)
    if "warmup_epochs" not in common and warmup != published.warmup_epochs:
        yield f"warm-up shortened from {published.warmup_epochs} to {warmup} epochs, in proportion to the training"


def shots_text(shots: int) -> str:
    """Number of training images per class, for people."""
    return f"{shots or 'all'} shot{'s' * (shots != 1)}"


@cache
def data_name(data: str) -> str:
    """`short_name` of a data set, cached because it searches all installed data sets."""
    return short_name(data)


def fingerprint(config: Mapping[str, Any], data_sha256: str) -> str:
    """Fingerprint of everything that a run's results depend on: settings and data.

    Args:
        config: settings as a run folder stores them.
        data_sha256: hash of the run's split.
    """
    relevant = {key: value for key, value in absolute(config).items() if key not in IRRELEVANT}
    return hashlib.sha256(json.dumps([relevant, data_sha256], sort_keys=True).encode()).hexdigest()
