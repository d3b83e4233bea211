"""Progress and messages on standard error: bars on a terminal and in a notebook, a line now and then in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from vlmadapt.runs.notebook import Bar, NotebookBars
from vlmadapt.text import duration

LINE_EVERY = 30.0
"""Seconds between two lines of progress where no bar can be drawn; what takes less time prints none."""


@dataclass(eq=False)
class _Work:
    """Something that is under way.

    Attributes:
        title: what it is.
        total: number of parts; None where it is not known.
        began: when it began.
        said: when its last line was printed, at first when it began.
        done: parts that are done.
        numbers: text next to them.
        task: its bar, None if none is drawn.
    """

    title: str
    total: int | None
    began: float
    said: float
    done: int = 0
    numbers: str = ""
    task: TaskID | None = None

    @property
    def line(self) -> str:
        """Its progress in a line."""
        seconds = time.monotonic() - self.began
        whole = "" if self.total is None else f" of {self.total:,}"
        numbers = f", {self.numbers}" if self.numbers else ""
        left = f", {duration(seconds * (self.total / self.done - 1))} left" if self.total and self.done else ""
        return f"{self.title}: {self.done:,}{whole}{numbers}, {duration(seconds)} so far{left}"


class Reporter:
    """Shows progress and messages of the main process; standard output stays free for results, but in a notebook."""

    def __init__(self, main_process: bool = True):
        self.console = Console(stderr=True, markup=False, emoji=False)
        self.visible = main_process and self.console.is_terminal
        self._notebook = NotebookBars() if main_process and self.console.is_jupyter else None
        self._main = main_process
        self._open: list[_Work] = []
        self._bars: Progress | None = None

    def say(self, message: str) -> None:
        """Print one line, on a terminal or not; in the main process only."""
        if self._notebook is not None:
            print(message)  # which a notebook wraps at its own width, and does not mark as an error
        elif self._main:
            self.console.print(message, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int | None) -> Iterator[None]:
        """Show progress while the context is open; `advance` and `update` move the bar that was opened last.

        Args:
            title: what is done.
            total: number of parts; None where it is not known.
        """
        now = time.monotonic()
        work = _Work(title, total, began=now, said=now)
        if self.visible:
            self._bars = self._bars or self._started()
            work.task = self._bars.add_task(title, total=total, numbers="")
        self._open.append(work)
        self._draw(at_once=True)
        try:
            yield
        finally:
            self._close(work)

    def advance(self, by: int = 1) -> None:
        """Move the bar by some parts."""
        if self._open:
            self._show(self._open[-1], self._open[-1].done + by)

    def update(self, completed: int, numbers: str) -> None:
        """Set the position of the bar and the text next to it."""
        if self._open:
            self._open[-1].numbers = numbers
            self._show(self._open[-1], completed)

    def _show(self, work: _Work, done: int) -> None:
        work.done = done
        if self._bars is not None and work.task is not None:
            self._bars.update(work.task, completed=done, numbers=work.numbers)
        elif self._notebook is not None:
            self._draw()
        elif time.monotonic() - work.said > LINE_EVERY:
            work.said = time.monotonic()
            self.say(work.line)

    def _draw(self, *, at_once: bool = False) -> None:
        """Draw the bars of a notebook, if this is one."""
        if self._notebook is not None:
            self._notebook.draw([Bar(work.done, work.total, work.line) for work in self._open], at_once=at_once)

    def _started(self) -> Progress:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
        )
        bars = Progress(*columns, console=self.console, transient=True)
        bars.start()
        return bars

    def _close(self, work: _Work) -> None:
        self._open.remove(work)
        self._draw(at_once=True)
        if self._bars is None:
            return
        if work.task is not None:
            self._bars.remove_task(work.task)
        if not self._open:
            self._bars.stop()
            self._bars = None
