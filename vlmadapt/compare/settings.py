"""What a comparison runs: a grid of methods, data sets, shots and seeds."""

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
from vlmadapt.core.build import method_class
from vlmadapt.data.load import short_name
from vlmadapt.data.splits import Protocol
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.settings import FitSettings, make_recipe
from vlmadapt.runs.settings_files import method_name
from vlmadapt.validation import validated

TRAINED_LIKE = {
    "all-classes": {"base-to-novel"},
    "cross-dataset": {"few-shot"},
    "domain-generalization": {"few-shot", "cross-dataset"},
}
"""Protocols that train as others do and differ in what they test."""

NOT_THE_NUMBERS = ("out", "workers", "data_root")
"""Settings that a run's numbers do not depend on."""


@dataclass(frozen=True)
class CompareSettings:
    """Settings of a comparison.

    Args:
        methods: registered names; the first is the reference that the others are compared with.
        data: registered data sets or folders of images per class.
        protocol: of every run.
        seeds: of every method on every data set.
        targets: data sets, with commas between, that cross-dataset and domain-generalization test on.
        class_split: YAML file with the lists `seen` and `unseen` of class names, for the protocol custom.
        data_root: folder that registered data sets lie in; by default $VLMADAPT_DATA.
        shots: training images per class; several give curves.
        val_shots: validation images per class for methods that choose by them, never more than shots; 0 for all.
        backbone: of every run.
        recipe: 'uniform' is one setting for everything, 'paper' what was published for protocol and data set; a method
            without such settings keeps its defaults.
        method_configs: settings files of `fit` that replace the recipe of the method they name; of several for one
            method, later files win key by key.
        train: training settings for all methods, over what recipes and files say.
        reuse: folders with runs to be taken where settings and data agree.
        skip_corrupt: leave broken images out instead of refusing to start.
        workers: processes that load images, in each run.
        out: folder of the comparison; by default `runs/compare-DATA-PROTOCOL-RECIPE`.
    """

    methods: list[str]
    data: list[str] = field(default_factory=lambda: ["openmoji"])
    protocol: Protocol = "base-to-novel"
    seeds: list[int] = field(default_factory=lambda: [1, 2, 3])
    targets: str | None = None
    class_split: str | None = None
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
        for name, value in validated(CompareSettings, vars(self), "setting").items():
            object.__setattr__(self, name, value)

    @property
    def folder(self) -> Path:
        """Where the comparison is kept."""
        names = "+".join(data_name(data) for data in self.data)
        return Path(self.out or Path("runs") / f"compare-{names}-{self.protocol}-{self.recipe}")

    def to_json(self) -> dict[str, Any]:
        """As it is written to `comparison.json`."""
        return asdict(self)

    def check(self) -> None:
        """Refuse what cannot be run.

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
        for path in self.method_configs:
            if method_name(Path(path)) not in self.methods:
                raise VlmadaptError(f"'{path}' is for '{method_name(Path(path))}', which is not among --methods.")


@dataclass(frozen=True)
class Cell:
    """One run of the grid.

    Attributes:
        settings: resolved, but for its folder.
        recipe: the files its method's settings are from; none means the method's defaults.
        note: where the recipe was published for something else than it is used for.
    """

    settings: FitSettings
    recipe: tuple[str, ...]
    note: str = ""

    @property
    def title(self) -> str:
        """For people."""
        s = self.settings
        return f"{s.method} on {data_name(s.data)}, {shots_text(s.shots)}, seed {s.seed}"

    def folder_name(self, print_of_it: str) -> str:
        """Of its run folder."""
        s = self.settings
        name = f"{s.method}-{data_name(s.data)}-{s.shots or 'all'}shot-seed{s.seed}-{print_of_it[:8]}"
        return re.sub(r"[^\w.+-]", "-", name)


def cells(settings: CompareSettings) -> Iterator[Cell]:
    """The grid, seed by seed, so that an interrupted comparison has something of every method.

    Raises:
        VlmadaptError: a method or one of its settings is unknown.
    """
    first = settings.seeds[0]
    grid = [_cell(settings, *at, first) for at in product(settings.data, settings.shots, settings.methods)]
    for seed in settings.seeds:
        yield from (replace(cell, settings=replace(cell.settings, seed=seed)) for cell in grid)


def _cell(settings: CompareSettings, data: str, shots: int, method: str, seed: int) -> Cell:
    own = {path: Path(path) for path in settings.method_configs if method_name(Path(path)) == method}
    recipe = MethodSettings.read(own) if own else find_recipe(method, settings.recipe, data, settings.protocol, shots)
    run = FitSettings(
        method=method,
        options=recipe.options,
        train=_train(method, recipe.train, settings.train),
        data=data,
        backbone=settings.backbone,
        protocol=settings.protocol,
        targets=settings.targets,
        class_split=settings.class_split,
        data_root=settings.data_root,
        shots=shots,
        val_shots=settings.val_shots,
        seed=seed,
        skip_corrupt=settings.skip_corrupt,
        workers=settings.workers,
        out="run",
    )
    used = {"protocol": {settings.protocol, *TRAINED_LIKE.get(settings.protocol, ())}, "shots": {shots}}
    differs = [f"{value} {key}" if key == "shots" else str(value)
               for key, value in recipe.made_for.items() if value not in used[key]]  # fmt: skip
    return Cell(run.resolved(), recipe.files, f"published for {', '.join(differs)}" if differs else "")


def _train(method: str, own: Mapping[str, Any], for_all: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with the settings for all methods; one that is solved instead of trained is not trained for that."""
    recipe = make_recipe(method_class(method).recipe, own)
    changes = dict(for_all)
    if "epochs" in changes and not (recipe.epochs or recipe.steps_per_shot):
        del changes["epochs"]
    elif "epochs" in changes:
        changes.setdefault("steps_per_shot", 0)  # the other way to say how long
    return {**own, **changes}


def shots_text(shots: int) -> str:
    """How many training images per class, for people."""
    return f"{shots or 'all'} shot{'s' * (shots != 1)}"


@cache
def data_name(data: str) -> str:
    """`short_name` of a data set; it looks through all that are installed, so once is enough."""
    return short_name(data)


def fingerprint(config: Mapping[str, Any], data_sha256: str) -> str:
    """What two runs have in common that must give the same numbers: their settings and their data.

    Args:
        config: as a run folder keeps it.
        data_sha256: of its manifest.
    """
    said = {key: value for key, value in config.items() if key not in NOT_THE_NUMBERS}
    return hashlib.sha256(json.dumps([said, data_sha256], sort_keys=True).encode()).hexdigest()
