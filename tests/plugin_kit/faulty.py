"""A good method, and methods that each have one fault that the kit has to find."""

from __future__ import annotations

import contextlib
import os
import random
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    END,
    IMAGE,
    MLP,
    TEXT,
    UNKNOWN,
    UNSEEN,
    Backbone,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Side,
    Task,
    adapt,
    inject,
    random_tokens,
)


@dataclass
class Config:
    """Options.

    Args:
        layer: where the branch is, from 0.
    """

    layer: int = 1


class Good(Method):
    """A trained vector parallel to one MLP of the image tower."""

    Config = Config
    recipe = Recipe(optimizer="sgd", lr=0.01, epochs=1)
    touches: ClassVar[tuple[Side, ...]] = (IMAGE,)
    api_version = 2

    def build(self, backbone: Backbone, task: Task) -> None:
        self.vector = nn.Parameter(torch.zeros(backbone.image.width))

    def hooks(self) -> Iterable[Hook]:
        yield adapt(IMAGE, self.config.layer, self.vector.expand_as, MLP)


@dataclass
class Undocumented(Config):
    """Options."""

    strength: float = 1.0


@dataclass
class Strong(Config):
    """Options.

    Args:
        strength: factor of the logits.
    """

    strength: float = 1.0


class BadConfig(Good):
    """Its options are not documented."""

    Config = Undocumented


class Forgets(Good):
    """It works in the text tower as well and does not say so."""

    def hooks(self) -> Iterable[Hook]:
        yield from super().hooks()
        yield adapt(TEXT, 0, self.vector.expand_as, MLP)


class Unused(Good):
    """It has a parameter that nothing depends on."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        self.extra = nn.Parameter(torch.zeros(3))


class Unregistered(Good):
    """It has a parameter in a list, where PyTorch does not find it."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        self.more = [nn.Parameter(torch.zeros(backbone.image.width))]

    def hooks(self) -> Iterable[Hook]:
        yield adapt(IMAGE, self.config.layer, (self.vector + self.more[0]).expand_as, MLP)


class UnregisteredModule(Good):
    """It has a module in a dictionary, where PyTorch does not find it."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        self.more = {"map": nn.Linear(backbone.image.width, backbone.image.width)}
        nn.init.zeros_(self.more["map"].weight)
        nn.init.zeros_(self.more["map"].bias)

    def hooks(self) -> Iterable[Hook]:
        yield adapt(IMAGE, self.config.layer, lambda x: self.vector + self.more["map"](x), MLP)


class SortsUnseen(Good):
    """It scores unseen classes in the order of their names."""

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        order = sorted(range(len(fwd.names)), key=lambda i: fwd.names[i])
        return fwd.logits()[:, order] if role is UNSEEN else fwd.logits()


class Meddles(Good):
    """It trains the backbone by hand."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        with torch.no_grad():
            next(backbone.parameters()).mul_(1.01)


class Unseeded(Good):
    """It draws from a generator of its own."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        self.vector.data = torch.tensor([random.SystemRandom().random() for _ in range(backbone.image.width)])


class Hides(Good):
    """It keeps a number outside its state."""

    steps = 0

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        self.steps += 1
        yield from super().losses(fwd)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        return fwd.logits() * (1 + self.steps)


class Bound(Good):
    """It remembers its classes."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        self.offset = nn.Parameter(torch.linspace(0, 1, len(task.classes)))

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        yield LossTerm("ce", 1.0, F.cross_entropy(self.route(fwd, UNKNOWN), fwd.labels))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        return fwd.logits() + self.offset


class Mixes(Good):
    """Its images look at each other."""

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        return fwd.logits() - fwd.logits().mean(0)


class LooksAround(Good):
    """Its branch looks at other tokens."""

    def hooks(self) -> Iterable[Hook]:
        yield adapt(TEXT, 1, lambda x: self.vector * x.mean(dim=-2, keepdim=True), MLP)

    touches = (TEXT,)

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        nn.init.ones_(self.vector)


class Loud(Good):
    """It prints, dials and seeds."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        print("building")
        torch.manual_seed(3)
        os.environ["KIT_WAS_HERE"] = str(random.random())
        with contextlib.suppress(OSError):
            socket.create_connection(("example.org", 80))


class Speechless(Good):
    """It cannot score classes whose role is unknown."""

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        if role is UNKNOWN:
            raise ValueError("seen or unseen?")
        return fwd.logits()


class Hoards(Good):
    """It keeps its losses with their graphs."""

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        for name, weight, value in super().losses(fwd):
            self.__dict__.setdefault("history", []).append(value)
            yield LossTerm(name, weight, value)


class Crashes(Good):
    """It cannot be trained."""

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        raise ZeroDivisionError("one over none")


class Misspelt(Good):
    """Its router is never called."""

    def routes(self, fwd: ForwardPass, role: Role) -> Tensor:
        return -fwd.logits()


class OneHook(Good):
    """It returns a hook where a list is expected."""

    def hooks(self) -> Iterable[Hook]:
        return adapt(IMAGE, self.config.layer, self.vector.expand_as, MLP)  # type: ignore[return-value]


class NoHook(Good):
    """It yields its tokens instead of saying where they go."""

    def hooks(self) -> Iterable[Hook]:
        yield self.vector  # type: ignore[misc]


class WideBranch(Good):
    """Its branch gives tokens of another width."""

    def hooks(self) -> Iterable[Hook]:
        yield adapt(IMAGE, self.config.layer, lambda x: x[..., :7], MLP)


class WideToken(Good):
    """Its tokens have another width than the tower's."""

    def build(self, backbone: Backbone, task: Task) -> None:
        self.vector = random_tokens(2, 7)

    def hooks(self) -> Iterable[Hook]:
        yield inject(IMAGE, {1: self.vector}, at=END)


class Untouched(Good):
    """It says that it works inside the text tower and does not."""

    touches = (TEXT, IMAGE)


class KnowsItsOwn(Bound):
    """It knows only its classes and says so."""

    answers_unseen = False


class Drifts(Good):
    """Its answers depend on the images before."""

    seen: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        self.register_buffer("seen", torch.zeros(()))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        self.seen += len(fwd.image())
        return fwd.logits() * (1 + self.seen)


class Still(Method):
    """It says that it is a stream, but an image counts only if it is surer than the random CLIP ever is."""

    Config = Strong
    recipe = Recipe(epochs=0)
    touches = ()
    api_version = 2
    streams = True

    seen: Tensor

    def stream_start(self, names: Sequence[str], role: Role) -> None:
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        scores = []
        for logits in fwd.zero_shot.logits:
            self.seen += logits.softmax(dim=-1).amax() > self.config.strength
            scores.append(logits * (1 + self.seen))
        return torch.stack(scores)


class Remembers(Good):
    """It computes a number once from its parameters."""

    scale: float | None = None

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        if self.scale is None and not self.training:
            self.scale = float(self.vector.sum())
        return fwd.logits() + (self.scale or 0.0)


class Waits(Good):
    """It looks at its loss in every step of its second stage."""

    recipe = replace(Good.recipe, epochs=2, cycles=2)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        for term in super().losses(fwd):
            first = self.cycle.number == 0
            yield term if first or float(term.value) < 1e9 else LossTerm("capped", 1.0, term.value)


class StaysBehind(Good):
    """It makes a tensor that does not move with it."""

    def build(self, backbone: Backbone, task: Task) -> None:
        super().build(backbone, task)
        self.weights = torch.linspace(1, 2, len(task.classes))

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        return fwd.logits() * self.weights[: len(fwd.names)]


class Varies(Good):
    """It draws a number in Python in every step, which a replay would repeat."""

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        for term in super().losses(fwd):
            yield LossTerm(term.name, 1.0 + random.Random(id(fwd)).random(), term.value)


class Admits(Waits):
    """It says that its step differs."""

    dynamic_step = True
