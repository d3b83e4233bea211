"""A plugin with the names of plugin API 1 trains, predicts and passes the kit, with warnings that name the new ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.command import call
from tests.plugin_kit.distributions import distribution
from tests.world import World
from vlmadapt import fit, load
from vlmadapt.core.build import method_class
from vlmadapt.registry.listing import list_plugins, plugin_info
from vlmadapt.testing import MethodUnderTest, Status, run_checks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SOURCE = '''
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    CONTEXT, EMBEDDING, IMAGE, TEXT, Backbone, Forward, Hook, Method, Read, Recipe, Role, Support, Task, Term, Trainer,
    block_indices, copies, head, inject, prompt, teacher, worded_tokens,
)


@dataclass
class OldConfig:
    """Options.

    Args:
        words: start of the context.
    """

    words: str = "a photo of a"


class Old(Method):
    """Learned words, copied projections, and a mean of support features."""

    Config = OldConfig
    recipe = Recipe(optimizer="adamw", lr=1e-2, epochs=3, batch_size=4)
    touches = (TEXT, IMAGE)

    def build(self, backbone: Backbone, task: Task) -> None:
        self.context, template = worded_tokens(backbone.text, self.config.words)
        self.template = template + " {}."
        (self.layer,) = block_indices([1])
        width, joint = backbone.image.projection.shape
        start = nn.Linear(width, joint, bias=False)
        self.projections = copies(start, 1)
        self.register_buffer("mean", torch.zeros(joint))

    def prepare(self, support: Support) -> None:
        features = [x.zero_shot.image for x in next(iter(support.passes(augmented=False)))]
        self.mean.copy_(torch.cat(features).mean(0))

    def hooks(self) -> Iterable[Hook]:
        yield prompt(self.template, raw=False)
        yield teacher("a photo of a {}.", unit=True, own=False, raw=True)
        yield inject(TEXT, {EMBEDDING: self.context}, at=CONTEXT)
        yield head(IMAGE, "copy", read=Read.CLASS, project=self.projections[0])

    def losses(self, x: Forward) -> Iterable[Term]:
        yield "class", 1.0, F.cross_entropy(x.logits("class"), x.labels)
        yield "copy", 0.5, F.cross_entropy(x.logits("copy"), x.labels)
        yield "pull", 0.1, (1 - x.text("class") @ self.mean).mean()

    def training_step(self, x: Forward, trainer: Trainer) -> list[Term]:
        terms = list(self.losses(x))
        trainer.minimise(sum(weight * value for _, weight, value in terms))
        return terms

    def route(self, x: Forward, role: Role) -> Tensor:
        return x.logits("class") + x.logits("copy")
'''
OLD_NAMES = (
    "Forward", "Term", "block_indices", "copies", "worded_tokens", "Trainer.minimise", "Support.passes",
    "prompt(raw=...)", "teacher(unit=...)", "teacher(own=...)", "teacher(raw=...)", "the head 'class'",
)  # fmt: skip


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    name = f"old-{tmp_path.name.replace('_', '-')}"
    distribution(tmp_path / "site", f"kit-{name}", {name: f"kit_{name.replace('-', '_')}:Old"}, SOURCE)
    return name


def test_it_trains_and_answers_and_every_old_name_says_its_new_one(old: str, world: World, tmp_path: Path) -> None:
    settings = world.settings(tmp_path / "run")
    changed = {"method": old, "options": {}, "train": {"epochs": 2, "batch_size": 4}}
    with pytest.warns(DeprecationWarning) as warned:
        result = fit(type(settings)(**{**vars(settings), **changed}))
        answers = list(load(result.folder).predict(sorted(world.pictures.rglob("*.png"))[:3], top=2))
    assert result.numbers["steps"] == 6
    assert all(value > 0 for value in result.numbers["accuracy"].values())
    assert [len(best) for best in answers] == [2, 2, 2]
    said = [str(warning.message) for warning in warned]
    for name in OLD_NAMES:
        assert any(f"{name} is deprecated; write " in message for message in said), name
    versions = [message for message in said if "plugin API 1" in message]
    assert len(versions) == 1
    assert "write `api_version = 2` in the class" in versions[0]


def test_the_kit_passes_it_but_for_the_version_it_does_not_state(old: str) -> None:
    with pytest.warns(DeprecationWarning):
        outcomes = {outcome.check: outcome for outcome in run_checks(MethodUnderTest(old), quick=True)}
    failed = {check for check, outcome in outcomes.items() if not outcome.good}
    assert failed == {"card"}
    assert "does not state the plugin API version" in outcomes["card"].message
    assert outcomes["fits"].status is Status.PASSED


def test_lists_say_what_to_change(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    note = f"'{old}' is written for plugin API 1, which still works; write `api_version = 2` in the class"
    info = plugin_info(old)[1]
    assert info.status == "ok"
    assert info.note.startswith(note)
    assert f"note: {note}" in call(capsys, "plugins", "list").out
    assert "written for plugin API 1, which still works" in " ".join(call(capsys, "plugins", "info", old).out.split())
    assert json.loads(call(capsys, "plugins", "info", old, "--json").out)["note"].startswith(note)
    assert not any(plugin.note for plugin in list_plugins() if plugin.distribution == "vlmadapt")


def test_check_says_it_too(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(DeprecationWarning, match="plugin API 1"):
        said = call(capsys, "plugins", "check", old, "--quick")
    assert said.code == 1
    assert f"advice: '{old}' is written for plugin API 1" in said.out


def test_a_method_is_warned_about_once(old: str) -> None:
    with pytest.warns(DeprecationWarning, match="plugin API 1") as warned:
        method_class(old)
        method_class(old)
    assert sum("plugin API 1" in str(warning.message) for warning in warned) == 1
