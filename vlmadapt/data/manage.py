"""`vlmadapt data list` and `vlmadapt data prepare`: state of the registered data sets, and their downloads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vlmadapt import registry
from vlmadapt.data.registered import find_source, require_root
from vlmadapt.data.source import DataSource, Step, data_root
from vlmadapt.errors import DataError, PluginError
from vlmadapt.text import first_line

PRESENT, DOWNLOADED, MISSING, MANUAL = "present", "downloaded", "missing", "manual"
"""States of a part: already in place, downloaded just now, not downloaded yet, only to be obtained by a person."""


@dataclass(frozen=True)
class DatasetInfo:
    """A registered data set in a list.

    Attributes:
        name: registered name.
        distribution: distribution that provides it.
        expected: published counts by part, as far as they are known.
        state: 'included', 'present', 'missing', 'incomplete', 'no data root', or why it is broken.
    """

    name: str
    distribution: str
    expected: dict[str, int]
    state: str


@dataclass(frozen=True)
class StepReport:
    """State of one part of a data set.

    Attributes:
        paths: files or folders of the part.
        how: source of the part, or instructions for a person.
        state: 'present', 'downloaded', 'missing', 'manual', or 'failed: ...'.
    """

    paths: tuple[Path, ...]
    how: str
    state: str


def list_data(root: Path | None = None) -> list[DatasetInfo]:
    """All registered data sets; a broken one is listed with its error."""
    cards = []
    for plugin in registry.plugins(registry.DATASETS):
        try:
            source = find_source(f"{plugin.distribution}:{plugin.name}")
        except PluginError as error:
            cards.append(DatasetInfo(plugin.name, plugin.distribution, {}, str(error)))
            continue
        cards.append(DatasetInfo(plugin.name, plugin.distribution, dict(source.expected), _state(source, root)))
    return cards


def prepare_data(
    name: str, root: Path | None = None, *, dry_run: bool = False, say: Callable[[str], None] = lambda text: None
) -> list[StepReport]:
    """Download the missing parts of a registered data set.

    Present parts are left alone, and a part that fails does not stop the others.

    Args:
        name: registered name.
        root: folder that data sets lie in; created if missing.
        dry_run: only report what would be done.
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
    return PRESENT if all(done) else "incomplete" if any(done) else MISSING


def _do(step: Step, dry_run: bool, say: Callable[[str], None]) -> str:
    if step.done:
        return PRESENT
    if step.run is None:
        return MANUAL
    if dry_run:
        return MISSING
    say(f"{', '.join(path.name for path in step.paths)}: {step.how}")
    try:
        step.run()
    except DataError as error:
        return f"failed: {error}"
    except Exception as error:  # downloads can raise nearly any error
        return f"failed: {type(error).__name__}: {first_line(error)}"
    return DOWNLOADED if step.done else "failed: the part is still missing"
