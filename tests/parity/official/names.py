"""What a test has to know of an official implementation to compare with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vlmadapt.plugin import ForwardPass, LossTerm, Method, total

Options = dict[str, Any]
Output = Callable[[Method, ForwardPass], Tensor]


@dataclass(frozen=True)
class Official:
    """A method of this library seen from its official code.

    Attributes:
        method: the registered name.
        options: (official hyper-parameters, the whole JSON) -> the method's options.
        names: (official pattern, this library's replacement) for parameter names; the first full match is taken.
        terms: this library's name of each loss term, by the official one; several that are added up in one.
        outputs: how an array of an evaluation is computed, by its name; `output` and `logits` need no entry.
        variants: further arrays that need other options: name -> (options, output).
        finished: names of arrays that are computed after `Method.finish`.
        loss: what the official code reports as the loss of a step, from the terms.
        weighted: the official code reports its loss terms multiplied by their weights.
        gradients: which of the gradients that a step asks for is stored as `grad0_NAME`, by NAME.
        steps: arrays with a row for each step, computed from the step's terms, by their names.
        runs: further runs of training, with other options, whose arrays are stored under `NAME/`, by NAME.
        later: parameters of this library that a later stage trains, which an oracle lists apart.
        plain: classes are described by the data set's templates, which are read off these texts.
        unused: loss terms that the official code computes and leaves out of its loss.
        routed: arrays that the inference router gives, besides `output`.
        drawn: official names of parameters whose random start is taken from the oracle.
        buffers: buffers that are no parameters, taken from the oracle's array `aux/NAME`, NAME by the buffer.
        start: sets the official start, where `prepare` goes on to the solution, called with (method, support).
        solved: options of each closed-form solution by the prefix of its arrays, from the whole JSON.
        epochs: the method acts at the start or the end of an epoch.
        lr: the optimiser's rate, where the official one is computed by the method itself.
        before_step: sets what the official run drew at random, called with (method, oracle, step).
    """

    method: str
    options: Callable[[dict[str, Any], dict[str, Any]], Options] = lambda hyper, oracle: {}
    names: tuple[tuple[str, str], ...] = ()
    terms: dict[str, str | tuple[str, ...]] = field(default_factory=dict)
    outputs: dict[str, Output] = field(default_factory=dict)
    variants: dict[str, tuple[Options, Output]] = field(default_factory=dict)
    finished: tuple[str, ...] = ()
    loss: Callable[[Sequence[LossTerm]], Tensor] = total
    weighted: bool = False
    gradients: dict[str, int] = field(default_factory=dict)
    steps: dict[str, Callable[[Sequence[LossTerm]], Tensor]] = field(default_factory=dict)
    runs: dict[str, Options] = field(default_factory=dict)
    later: tuple[str, ...] = ()
    plain: bool = False
    unused: tuple[str, ...] = ()
    routed: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    buffers: dict[str, str] = field(default_factory=dict)
    start: Callable[[Any, Any], None] | None = None
    solved: Callable[[dict[str, Any]], dict[str, Options]] = lambda oracle: {}
    epochs: bool = False
    lr: float | None = None
    before_step: Callable[[Method, Any, int], None] = lambda method, oracle, step: None

    def name(self, official: str) -> str:
        for pattern, replacement in self.names:
            if re.fullmatch(pattern, official):
                return re.sub(pattern, replacement, official)
        raise KeyError(f"no counterpart for the official parameter '{official}'")

    def term(self, official: str, terms: Sequence[LossTerm]) -> Tensor:
        """A loss term by its official name, as the official code reports it; one of weight 0 may be left out."""
        ours = self.terms[official]
        wanted = (ours,) if isinstance(ours, str) else ours
        found = {name: weight * value if self.weighted else value for name, weight, value in terms}
        if self.weighted and not found.keys() & set(wanted):
            return torch.zeros(())
        return torch.stack([found[name] for name in wanted]).sum()


def spaced(name: str) -> str:
    """A class name as official code writes it into a text; it keeps spaces that follow each other."""
    return name.replace("_", " ")


def template_of(prompts: dict[str, Any], classes: Sequence[str]) -> str:
    """The first template that an oracle's texts were written with, with `{}` for the class name."""
    return templates_of(prompts, classes)[0]


def templates_of(prompts: dict[str, Any], classes: Sequence[str]) -> tuple[str, ...]:
    """All templates that an oracle's texts were written with, in the order they are first met."""
    ways = ([spaced(name) for name in classes], list(classes))  # some official code writes underscores as they are
    return next(filter(None, (_templates(prompts["text"], names) for names in ways)), ())


def _templates(texts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    found = [
        text[: match.start()] + "{}" + text[match.end() :]
        for text in texts
        for match in re.finditer(re.escape(names[0]), text)
    ]
    return tuple(t for t in dict.fromkeys(found) if all(t.replace("{}", name) in texts for name in names))
