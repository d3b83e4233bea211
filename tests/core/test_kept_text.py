"""Text features are kept until the method changes, however it changes, and never where they depend on the images."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import small
from tests.core.hook_shapes import JOINT, WIDTH, Synthetic, first_in_both
from tests.parity.tiny_clip import inputs
from vlmadapt import Backbone, registry
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.hooks import EMBEDDING, FIRST, Hook, inject, per_class, per_variant
from vlmadapt.core.kept_text import MOST_KEPT, KeptText, MethodState
from vlmadapt.core.plan import Optimizations
from vlmadapt.core.side import IMAGE, TEXT
from vlmadapt.core.templates import Template
from vlmadapt.testing import MethodUnderTest

METHODS = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.distribution == registry.OWN]


@dataclass
class Options:
    strength: float = 1.0
    layers: list[int] = field(default_factory=lambda: [1, 2])


@dataclass(slots=True)
class Slotted:
    strength: float = 1.0


class Kind(Enum):
    A = 1
    B = 2


class Stateful(nn.Module):
    """A method with something of every kind in it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("later", None)
        self.register_buffer("hidden", torch.zeros(3), persistent=False)
        self.config = Options()
        self.slotted = Slotted()
        self.kind = Kind.A
        self.alpha = 0.5
        self.table = torch.zeros(2)
        self.by_name = {"a": torch.zeros(2), "b": [1, 2]}
        self.groups = [torch.zeros(2), (1, torch.zeros(2))]
        self.seen = {1, 2}
        self.array = np.zeros(3)
        self.outside = [nn.Linear(2, 2)]
        self.device = torch.device("cpu")
        self.function = len
        self.generator = torch.Generator()


def change(method: Stateful, path: str, value: Any) -> None:
    *owners, name = path.split(".")
    owner: Any = method
    for part in owners:
        owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
    setattr(owner, name, value)


def in_place(tensor: Tensor) -> None:
    with torch.no_grad():
        tensor.add_(1.0)


def by_data(tensor: Any) -> None:
    tensor.data.add_(1.0)


def reordered(method: Stateful) -> None:
    method.by_name = {"b": [1, 2], "a": torch.ones(2)}


CHANGES: dict[str, Callable[[Stateful], object]] = {
    "a parameter in place": lambda m: in_place(m.weight),
    "a parameter by its data": lambda m: by_data(m.weight),
    "a parameter's data replaced": lambda m: change(m, "weight.data", torch.zeros(3)),
    "another parameter": lambda m: change(m, "weight", nn.Parameter(torch.zeros(3))),
    "one element": lambda m: m.weight.data[2:].zero_(),
    "a parameter of a nested module": lambda m: by_data(m.inner[0].bias),
    "a buffer by its data": lambda m: by_data(m.mean),
    "a buffer that was none": lambda m: change(m, "later", torch.zeros(1)),
    "a buffer that is not saved": lambda m: by_data(m.hidden),
    "a running mean": lambda m: m.inner[1].running_mean.add_(1),
    "training mode": lambda m: m.eval(),
    "training mode of a part": lambda m: m.inner.eval(),
    "an attribute": lambda m: change(m, "alpha", 0.25),
    "an attribute of a nested module": lambda m: change(m, "inner.1.eps", 0.25),
    "a new attribute": lambda m: change(m, "beta", 0.25),
    "an option": lambda m: change(m, "config.strength", 2.0),
    "a list of an option": lambda m: m.config.layers.append(3),
    "an option in slots": lambda m: change(m, "slotted.strength", 2.0),
    "an enumeration": lambda m: change(m, "kind", Kind.B),
    "a tensor in an attribute, by its data": lambda m: by_data(m.table),
    "a tensor in a dictionary": lambda m: by_data(m.by_name["a"]),  # type: ignore[arg-type]
    "a list in a dictionary": lambda m: m.by_name["b"].append(3),  # type: ignore[attr-defined]
    "a dictionary in another order": reordered,
    "a tensor in a list": lambda m: by_data(m.groups[0]),  # type: ignore[arg-type]
    "a tensor in a tuple": lambda m: by_data(m.groups[1][1]),  # type: ignore[index]
    "a set": lambda m: m.seen.add(3),
    "an array": lambda m: m.array.fill(1),
    "a module in a list": lambda m: by_data(m.outside[0].weight),
    "a function": lambda m: change(m, "function", max),
    "a generator": lambda m: torch.rand(1, generator=m.generator),
    "precision": lambda m: m.double(),
    "an object that cannot be compared": lambda m: change(m, "other", SimpleNamespace(alpha=1)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_of_a_method_is_noticed(name: str) -> None:
    method = Stateful()
    before = MethodState(method).copy()
    assert MethodState(method).equals(before)
    CHANGES[name](method)
    assert not MethodState(method).equals(before)


def test_a_change_that_is_taken_back_is_none() -> None:
    method = Stateful()
    before = MethodState(method).copy()
    method.weight.data.mul_(2)
    method.weight.data.div_(2)
    assert MethodState(method).equals(before)


def test_a_method_with_an_object_that_cannot_be_compared_is_never_the_same() -> None:
    method = Stateful()
    method.other = SimpleNamespace(alpha=1)  # type: ignore[assignment]
    assert not MethodState(method).equals(MethodState(method))


def test_an_object_at_the_address_of_another_is_another() -> None:
    """The state holds what it compares by identity: a freed function's address may be taken by the next one."""
    method = Stateful()
    method.function = lambda x: 1  # type: ignore[assignment]
    before = MethodState(method).copy()
    address = id(method.function)
    for _ in range(100):
        method.function = None  # type: ignore[assignment]
        method.function = lambda x: 2  # type: ignore[assignment]
        assert id(method.function) != address
        assert not MethodState(method).equals(before)


@pytest.mark.parametrize("name", METHODS)
def test_the_text_features_of_every_method_can_be_kept(name: str) -> None:
    method = MethodUnderTest(name).build()
    assert MethodState(method).equals(MethodState(method).copy())


def test_features_are_kept_for_a_few_keys() -> None:
    kept, method = KeptText(), Stateful()
    features = [{"pooled": torch.zeros(2)} for _ in range(MOST_KEPT + 1)]
    assert kept.get(0, method) is None
    for key, found in enumerate(features):
        kept.keep(key, method, found)
    assert kept.get(0, method) is None, "the first one makes room"
    assert [kept.get(key, method) for key in range(1, len(features))] == features[1:]
    kept.clear()
    assert kept.get(1, method) is None


def test_a_change_of_the_method_drops_the_features_of_all_keys() -> None:
    kept, method = KeptText(), Stateful()
    for key in "ab":
        kept.keep(key, method, {"pooled": torch.zeros(2)})
    method.number = 5.0  # type: ignore[assignment]
    assert kept.get("a", method) is None
    assert kept.get("b", method) is None


# -- in a forward pass ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip")).double()


TEMPLATES = [Template.parse("a photo of a {}.")]
NAMES = small.NAMES


@torch.no_grad()
def text(engine: Engine, method: Synthetic, seed: int = 1, names: tuple[str, ...] = NAMES) -> Tensor:
    """Text features in a pass over images that depend on the seed."""
    return ForwardPass(engine, method, names, TEMPLATES, inputs(seed, 3, 16).double()).features(TEXT)


def test_kept_features_are_those_of_the_reference_after_a_change_by_data(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    reference = Engine(backbone, Optimizations.named("reference"))
    before = text(engine, method)
    assert text(engine, method, seed=2) is before
    method.tensors["text1"].data.mul_(-1.0)
    after = text(engine, method)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, text(reference, method), rtol=1e-9, atol=1e-9)


def test_other_classes_have_their_own_features(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    text(engine, method)
    torch.testing.assert_close(text(engine, method, names=NAMES[:2]), text(Engine(backbone), method)[:2])


def test_nothing_is_kept_where_gradients_are_wanted(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    kept = text(engine, method)
    found = ForwardPass(engine, method, NAMES, TEMPLATES, inputs(1, 3, 16).double()).features(TEXT)
    assert found is not kept
    assert found.requires_grad


def test_nothing_is_kept_under_another_precision(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both).float(), Engine(small_float(backbone))
    full = text(engine, method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert text(engine, method).dtype != full.dtype or not torch.equal(text(engine, method), full)


def small_float(backbone: Backbone) -> Backbone:
    """The same backbone in float32."""
    return deepcopy(backbone).float()


def test_the_reference_keeps_nothing(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone, Optimizations.named("reference"))
    assert text(engine, method) is not text(engine, method)


def test_clearing_the_engine_drops_them(backbone: Backbone) -> None:
    method, engine = Synthetic(backbone, first_in_both), Engine(backbone)
    before = text(engine, method)
    engine.clear()
    assert text(engine, method) is not before


def of_images(ask: Callable[[ForwardPass], Tensor]) -> Callable[[Synthetic], Iterable[Hook]]:
    """Text tokens that are a function of the images, declared as if they were not: (1, WIDTH) for all."""

    def declare(m: Synthetic) -> Iterable[Hook]:
        weight = m.t("map", JOINT, WIDTH)
        yield inject(TEXT, {1: per_variant(lambda x: (ask(x).mean(0, keepdim=True) @ weight)[None])}, at=FIRST)

    return declare


ASKED: dict[str, Callable[[ForwardPass], Tensor]] = {
    "unit features": lambda x: x.image(),
    "features": lambda x: x.features(IMAGE),
    "features by head": lambda x: x.image_features["pooled"],
    "frozen features": lambda x: x.zero_shot.image,
    "frozen logits": lambda x: x.zero_shot.logits @ torch.ones(len(NAMES), JOINT, dtype=torch.float64),
    "pixels": lambda x: x.images.flatten(1)[:, :JOINT],
    "another pass": lambda x: x.other(hooks=()).image(),
    "frozen features of another pass": lambda x: x.other(names=("cat",)).zero_shot.image,
    "what is computed once": lambda x: x.once("mine", x.image),
}


@pytest.mark.parametrize("name", ASKED)
def test_features_that_depend_on_the_images_are_never_kept(backbone: Backbone, name: str) -> None:
    method, engine = Synthetic(backbone, of_images(ASKED[name])), Engine(backbone)
    first, second = text(engine, method, seed=1), text(engine, method, seed=2)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(second, text(Engine(backbone), method, seed=2), rtol=1e-9, atol=1e-9)


def test_features_of_the_second_pass_depend_on_the_images_too(backbone: Backbone) -> None:
    """The image features were computed before the text features."""
    method, engine = Synthetic(backbone, of_images(lambda x: x.image())), Engine(backbone)
    with torch.no_grad():
        passes = [ForwardPass(engine, method, NAMES, TEMPLATES, inputs(s, 3, 16).double()) for s in (1, 2)]
        texts = []
        for fwd in passes:
            fwd.image()
            texts.append(fwd.text())
    assert not torch.allclose(texts[0], texts[1])


def test_tokens_of_the_frozen_texts_are_kept(backbone: Backbone) -> None:
    """TCP's shape: they are the same for every batch."""

    def declare(m: Synthetic) -> Iterable[Hook]:
        weight = m.t("map", JOINT, WIDTH)
        yield inject(TEXT, {EMBEDDING: per_class(lambda x: (x.zero_shot.text @ weight)[:, None])}, at=FIRST)

    method, engine = Synthetic(backbone, declare), Engine(backbone)
    assert text(engine, method, seed=2) is text(engine, method, seed=1)


def test_a_trusted_method_is_not_compared_until_the_context_ends() -> None:
    """Comparing makes the host wait for a GPU; what was kept before the context may be old and is dropped."""
    kept, method, features = KeptText(), Stateful(), {"pooled": torch.ones(2)}
    kept.keep("names", method, features)
    with kept.trusted():
        assert kept.get("names", method) is None
        kept.keep("names", method, features)
        in_place(method.weight)
        assert kept.get("names", method) is features
        assert kept.get("other names", method) is None
        kept.keep("names", method, features)
    in_place(method.weight)
    assert kept.get("names", method) is None
