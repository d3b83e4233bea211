"""The file of a comparison: its runs, their folders and their errors."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypedDict

from vlmadapt.compare.settings import IRRELEVANT
from vlmadapt.errors import DataError, VlmadaptError
from vlmadapt.files import read_json, write_json
from vlmadapt.runs.run import Run
from vlmadapt.runs.settings import FitSettings
from vlmadapt.shapes import check_shape
from vlmadapt.text import first_few, first_line

COMPARISON = "comparison.json"


class EntryFile(TypedDict):
    """A run in `comparison.json`, see `Entry`."""

    method: str
    data: str
    shots: int
    seed: int
    folder: str
    recipe: list[str]
    note: str
    error: str | None


class ComparisonFile(TypedDict):
    """`comparison.json`, see `Comparison`."""

    format: Literal[1]
    protocol: str
    backbone: str
    recipe: str
    entries: list[EntryFile]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One run of a comparison.

    Attributes:
        method: registered name.
        data: data set or folder.
        shots: training images per class, 0 for all.
        seed: random seed.
        folder: run folder.
        recipe: settings files of its recipe; none means the method's defaults.
        note: differences between its recipe and the published one.
        error: message of a failed run, None if it has not failed.
    """

    method: str
    data: str
    shots: int
    seed: int
    folder: Path
    recipe: tuple[str, ...] = ()
    note: str = ""
    error: str | None = None

    def result(self) -> dict[str, Any] | None:
        """Results of the run but for those of each class, None if it has none; as they were when first asked for."""
        return self._result

    @cached_property
    def _result(self) -> dict[str, Any] | None:
        found = Run(self.folder).result() if self.error is None else None
        if found is None:
            return None
        # Every table asks for all results, so they stay in memory; those of each class would be most of them.
        groups = [{name: group[name] for name in group if name != "classes"} for group in found.get("groups", ())]
        return {**found, "groups": groups}

    def device(self) -> str:
        """The device that a finished run was trained and tested on."""
        environment = Run(self.folder).environment()
        threads = environment["threads"]
        return environment["gpu"] or f"CPU, {threads} thread{'s' * (threads > 1)}"


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared.

    Attributes:
        protocol: protocol of all runs.
        backbone: backbone of all runs.
        recipe: name of the recipes.
        entries: the runs.
        settings: settings of `vlmadapt compare`.
    """

    protocol: str
    backbone: str
    recipe: str
    entries: tuple[Entry, ...]
    settings: dict[str, Any]

    @property
    def methods(self) -> list[str]:
        """Methods in the order requested; the first is the reference."""
        return list(dict.fromkeys(entry.method for entry in self.entries))

    @property
    def data(self) -> list[str]:
        """Data sets in the order requested."""
        return list(dict.fromkeys(entry.data for entry in self.entries))

    @property
    def shots(self) -> list[int]:
        """Numbers of shots in the order requested."""
        return list(dict.fromkeys(entry.shots for entry in self.entries))

    def of(self, method: str, data: str, shots: int) -> list[Entry]:
        """Runs that differ only in their seed."""
        return [e for e in self.entries if (e.method, e.data, e.shots) == (method, data, shots)]

    def write(self, folder: Path) -> None:
        """Write the file; run folders are relative to the comparison's, so that both can be moved together."""
        content = asdict(self)
        for entry in content["entries"]:
            entry["folder"] = Path(os.path.relpath(entry["folder"], folder)).as_posix()
        write_json(folder / COMPARISON, {"format": 1, **content})

    @classmethod
    def read(cls, folder: Path) -> Comparison:
        """Read the file that `write` wrote.

        Raises:
            VlmadaptError: the file is missing or damaged.
        """
        path = folder / COMPARISON
        try:
            content = read_json(path)
            check_shape(content, ComparisonFile)
            del content["format"]
            entries = tuple(
                Entry(**{**e, "folder": folder / e["folder"], "recipe": tuple(e["recipe"])})
                for e in content.pop("entries")
            )
            return cls(entries=entries, **content)
        except (DataError, ValueError, TypeError) as error:
            cause = first_line(error).rstrip(".")
            raise VlmadaptError(f"'{path}' is damaged ({cause}); the comparison cannot be used.") from error


def comparison_of(folders: Sequence[Path]) -> Comparison:
    """Treat runs of `fit` as a comparison.

    Raises:
        VlmadaptError: a folder holds no run, the runs differ in protocol or backbone, or runs of one method on the same
            data differ in more than their seed.
    """
    entries = []
    kinds = {}
    rows: dict[tuple[str, str, int], tuple[Path, dict[str, Any]]] = {}
    for folder in folders:
        settings = Run.open(folder).settings()
        row = settings.method, settings.data, settings.shots
        _check_repeats(*rows.setdefault(row, (folder, _relevant(settings))), folder, _relevant(settings))
        kinds[settings.protocol, settings.backbone] = folder
        entries.append(Entry(settings.method, settings.data, settings.shots, settings.seed, folder))
    if len(kinds) > 1:
        (one, first), (other, second) = list(kinds.items())[:2]
        raise VlmadaptError(
            f"'{first}' is {one[0]} on {one[1]} and '{second}' is {other[0]} on {other[1]}; only runs of one protocol "
            "and one backbone can be compared."
        )
    protocol, backbone = next(iter(kinds))
    return Comparison(protocol or "few-shot", backbone, "as run", tuple(entries), {})


def _relevant(settings: FitSettings) -> dict[str, Any]:
    """Settings that results depend on, but the seed; those of method and training by `method.NAME` and `train.NAME`."""
    config = settings.to_config()
    parts = {f"{part}.{name}": value for part in ("method", "train") for name, value in config.pop(part).items()}
    return {name: value for name, value in (parts | config).items() if name not in ("seed", *IRRELEVANT)}


def _check_repeats(first: Path, known: Mapping[str, Any], other: Path, given: Mapping[str, Any]) -> None:
    """Refuse two runs of one row of a table that do not repeat each other: their mean would be of different things.

    Raises:
        VlmadaptError: the message names the settings that differ.
    """
    differing = sorted(name for name in known.keys() | given.keys() if known.get(name) != given.get(name))
    if differing:
        raise VlmadaptError(
            f"'{first}' and '{other}' are both {known['method.name']} on {known['data']}, with other "
            f"{first_few(differing)}; report them one at a time."
        )
