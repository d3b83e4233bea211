"""The line of source that called torch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class Place:
    """A line of source outside torch.

    Attributes:
        file: path of the source file.
        line: line number from 1.
        function: name of the function.
    """

    file: str
    line: int
    function: str

    @property
    def short(self) -> str:
        """File name, line and function."""
        return f"{Path(self.file).name}:{self.line} in {self.function}"


def caller(watcher: str) -> Place:
    """The innermost line outside torch and the file of the one who asks."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(_TORCH) and code.co_filename != watcher:
            return Place(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back
    return Place("?", 0, "?")
