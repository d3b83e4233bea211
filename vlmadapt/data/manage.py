"""Looking after data sets: which there are, whether they are complete, and how to get them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vlmadapt import registry
from vlmadapt.data.dataset import Dataset
from vlmadapt.data.load import is_registered, load_data
from vlmadapt.data.registered import find_source, require_root
from vlmadapt.data.source import DataSource, Step, data_root
from vlmadapt.errors import DataError, PluginError

PARTS = ("classes", "train", "val", "test")


@dataclass(frozen=True)
class DatasetInfo:
    """A registered data set in a list.

    Attributes:
        name: it is registered under.
        distribution: that provides it.
        expected: published counts by part, as far as they are known.
        state: 'included', 'there', 'not there', 'incomplete', 'no data root', or why it is broken.
    """

    name: str
    distribution: str
    expected: dict[str, int]
    state: str


@dataclass(frozen=True)
class DataReport:
    """What `check_data` found.

    Attributes:
        name: of the data set.
        expected: published counts by part, empty where not known.
        found: counts by part.
        missing: image files that are listed and not there, or empty.
        notes: what a reader of results must know.
    """

    name: str
    expected: dict[str, int]
    found: dict[str, int]
    missing: tuple[Path, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Nothing is missing and the counts are the published ones."""
        return not self.missing and all(self.found[part] == n for part, n in self.expected.items())


@dataclass(frozen=True)
class StepReport:
    """One part of a data set: 'there', 'got', 'to get', 'by hand', or 'failed: ...'."""

    paths: tuple[Path, ...]
    how: str
    state: str


def list_data(root: Path | None = None) -> list[DatasetInfo]:
    """Every registered data set; a broken one is shown as such."""
    cards = []
    for plugin in registry.plugins(registry.DATASETS):
        try:
            source = find_source(f"{plugin.distribution}:{plugin.name}")
        except PluginError as error:
            cards.append(DatasetInfo(plugin.name, plugin.distribution, {}, str(error)))
            continue
        cards.append(DatasetInfo(plugin.name, plugin.distribution, dict(source.expected), _state(source, root)))
    return cards


def check_data(spec: str, root: Path | None = None) -> DataReport:
    """Count a data set's classes and images against what is published, and look for every file.

    Args:
        spec: anything that `load_data` takes.
        root: folder that registered data sets lie in.

    Raises:
        DataError: it cannot even be read; the message names what is missing.
    """
    data = load_data(spec, root=root)
    expected = dict(find_source(spec).expected) if is_registered(spec) else {}
    return DataReport(spec, expected, _counts(data), _missing(data), data.notes)


def prepare_data(
    name: str, root: Path | None = None, *, dry_run: bool = False, say: Callable[[str], None] = lambda text: None
) -> list[StepReport]:
    """Get what a registered data set lacks.

    What is there is left alone, and what fails does not stop the rest.

    Args:
        name: it is registered under.
        root: folder that data sets lie in; made if missing.
        dry_run: only say what would be done.
        say: called with a line before each download.
    """
    source = find_source(name)
    steps = source.steps(require_root(name, source, root))
    return [StepReport(step.paths, step.how, _do(step, dry_run, say)) for step in steps]


def _state(source: DataSource, root: Path | None) -> str:
    if not source.needs_root:
        return "included"
    folder = data_root(root)
    if folder is None:
        return "no data root"
    done = [step.done for step in source.steps(folder)]
    return "there" if all(done) else "incomplete" if any(done) else "not there"


def _counts(data: Dataset) -> dict[str, int]:
    return dict(zip(PARTS, (len(data.classes), len(data.train), len(data.val), len(data.test)), strict=True))


def _missing(data: Dataset) -> tuple[Path, ...]:
    paths = list(dict.fromkeys(e.path for part in (data.train, data.val, data.test) for e in part))
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        return tuple(path for path, size in zip(paths, pool.map(_size, paths), strict=True) if not size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _do(step: Step, dry_run: bool, say: Callable[[str], None]) -> str:
    if step.done:
        return "there"
    if step.run is None:
        return "by hand"
    if dry_run:
        return "to get"
    say(f"{', '.join(path.name for path in step.paths)}: {step.how}")
    try:
        step.run()
    except DataError as error:
        return f"failed: {error}"
    except Exception as error:  # the network and its libraries raise nearly anything
        cause = (str(error).strip() or "no reason given").splitlines()[0]
        return f"failed: {type(error).__name__}: {cause}"
    return "got" if step.done else "failed: it is still not there"
