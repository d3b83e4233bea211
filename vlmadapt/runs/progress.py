"""Progress bars and messages on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Reporter:
    """Shows progress bars (on a terminal only) and messages; standard output stays free for results."""

    def __init__(self, main_process: bool = True):
        self.console = Console(stderr=True, markup=False, emoji=False)
        self.visible = main_process and self.console.is_terminal
        self._main = main_process
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def say(self, message: str) -> None:
        """Print one line, on a terminal or not; in the main process only."""
        if self._main:
            self.console.print(message, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int | None) -> Iterator[None]:
        """Show a bar while the context is open; `advance` and `update` move it. The total may not be known."""
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
        """Move the bar by some steps."""
        if self._bar is not None and self._task is not None:
            if numbers is not None:
                self._bar.update(self._task, numbers=numbers)
            self._bar.advance(self._task, by)

    def update(self, completed: int, numbers: str) -> None:
        """Set the position of the bar and the text next to it."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=completed, numbers=numbers)
