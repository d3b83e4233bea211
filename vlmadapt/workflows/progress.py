"""What a person sees of long work; nothing where the output is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vlmadapt.workflows import state


class Reporter:
    """Progress bars on standard error, so that results on standard output stay clean."""

    def __init__(self, main_process: bool = True):
        self.console = Console(stderr=True, markup=False, emoji=False)
        self.visible = main_process and self.console.is_terminal
        self._main = main_process
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def say(self, message: str) -> None:
        """One line for people, on a terminal or not; only from the main process."""
        if self._main:
            self.console.print(message, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[None]:
        """A bar while something runs; `advance` moves it."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, disable=not self.visible, transient=True) as bar:
            self._bar, self._task = bar, bar.add_task(title, total=total, numbers="")
            try:
                yield
            finally:
                self._bar = self._task = None

    def advance(self, by: int = 1, numbers: str | None = None) -> None:
        """Move the bar."""
        if self._bar is not None and self._task is not None:
            if numbers is not None:
                self._bar.update(self._task, numbers=numbers)
            self._bar.advance(self._task, by)

    @contextmanager
    def training(self, epochs: int, steps: int) -> Iterator[None]:
        """The bar of a training run of `epochs` epochs with `steps` steps each."""
        self._all = epochs * steps
        with self.bar("training", self._all):
            yield

    def step(self, progress: state.Progress, batch: int) -> None:
        """Show where training is: loss and accuracy of the epoch so far, images per second."""
        if self._bar is None or self._task is None:
            return
        images = max(progress.sums.get("images", 0.0), 1.0)
        rate = batch * progress.steps / max(progress.seconds, 1e-9)
        numbers = (
            f"epoch {progress.epoch + 1}  loss {progress.sums.get('loss', 0.0) / images:.3f}  "
            f"acc {100 * progress.sums.get('correct', 0.0) / images:.1f}%  {rate:.0f} img/s"
        )
        self._bar.update(self._task, completed=progress.steps, numbers=numbers)
