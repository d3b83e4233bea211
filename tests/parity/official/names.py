"""What a test has to know of an official implementation to compare with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vlmadapt.plugin import Forward, Method, Term, total

Options = dict[str, Any]
Output = Callable[[Method, Forward], Tensor]


@dataclass(frozen=True)
class Official:
    """A method of this library seen from its official code.

    Attributes:
        method: the registered name.
        options: (official hyper-parameters, the whole JSON) -> the method's options.
        names: (official pattern, this library's replacement) for parameter names; the first full match is taken.
        terms: this library's name of each loss term, by the official one.
        outputs: how an array of an evaluation is computed, by its name; `output` and `logits` need no entry.
        variants: further arrays that need other options: name -> (options, output).
        loss: what the official code reports as the loss of a step, from the terms.
        before_step: sets what the official run drew at random, called with (method, oracle, step).
    """

    method: str
    options: Callable[[dict[str, Any], dict[str, Any]], Options] = lambda hyper, oracle: {}
    names: tuple[tuple[str, str], ...] = ()
    terms: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    variants: dict[str, tuple[Options, Output]] = field(default_factory=dict)
    loss: Callable[[Sequence[Term]], Tensor] = total
    before_step: Callable[[Method, Any, int], None] = lambda method, oracle, step: None

    def name(self, official: str) -> str:
        for pattern, replacement in self.names:
            if re.fullmatch(pattern, official):
                return re.sub(pattern, replacement, official)
        raise KeyError(f"no counterpart for the official parameter '{official}'")
