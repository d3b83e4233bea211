"""The kit finds what is wrong, says it in words, and says how to fix it."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import ClassVar

import pytest
from torch import Tensor

import vlmadapt.testing
from tests.plugin_kit.faulty import (
    Admits,
    BadConfig,
    Bound,
    Crashes,
    Drifts,
    Forgets,
    Good,
    Hides,
    Hoards,
    KnowsItsOwn,
    LooksAround,
    Loud,
    Meddles,
    Misspelt,
    Mixes,
    NoHook,
    OneHook,
    Remembers,
    SortsUnseen,
    Speechless,
    StaysBehind,
    Still,
    Strong,
    Unregistered,
    UnregisteredModule,
    Unseeded,
    Untouched,
    Unused,
    Varies,
    Waits,
    WideBranch,
    WideToken,
)
from vlmadapt.core.kept_text import MethodState
from vlmadapt.errors import PluginError
from vlmadapt.plugin import (
    MLP,
    TEXT,
    Backbone,
    ForwardPass,
    Hook,
    Method,
    Role,
    adapt,
)
from vlmadapt.testing import (
    CheckFailed,
    CheckResult,
    MethodUnderTest,
    NotApplicable,
    Status,
    checks,
    run_checks,
    tiny_clip,
)
from vlmadapt.testing.advice import advice
from vlmadapt.testing.checks.processes import _answers_as_one_process


def shallow(seed: int = 0) -> Backbone:
    """A CLIP of its own for a test, of three blocks."""
    return tiny_clip.__wrapped__(seed, 3)


def failures(method: type[Method], *names: str) -> dict[str, str]:
    """Messages of the checks that a method fails, of those named or of all."""
    tested = MethodUnderTest(method, backbone=shallow())
    chosen = [check for check in checks(quick=True) if check.name in names or not names]
    found = {}
    for check in chosen:
        try:
            check(tested)
        except CheckFailed as failure:
            found[check.name] = str(failure)
        except NotApplicable:
            pass
    return found


def test_a_good_method_fails_nothing() -> None:
    assert failures(Good) == {}


def test_the_seeds_of_the_kit_are_not_taken_for_those_of_the_method() -> None:
    MethodUnderTest(Good, backbone=shallow()).trace_again()  # libraries that are imported on first use may draw
    assert MethodUnderTest(Good, backbone=shallow()).trace.changed == []


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        (BadConfig, {"config": "'strength' is not documented"}),
        (Forgets, {"card": "works inside the text tower and does not say so"}),
        (Unused, {"gradients": "no gradient reaches the parameter 'extra'"}),
        (Unregistered, {"gradients": "parameters in 'more' of Unregistered are not registered"}),
        (UnregisteredModule, {"gradients": "parameters in 'more' of UnregisteredModule are not registered"}),
        (SortsUnseen, {"class-order": "scores of unseen classes in another order"}),
        (Meddles, {"backbone-untouched": "its weights"}),
        (Unseeded, {"deterministic": "'vector' differs between two fits"}),
        (Hides, {"saves-and-loads": "scores before and after saving"}),
        (Remembers, {"keeps-up": "scores after a change of all parameters and buffers through `.data`"}),
        (Bound, {"unseen-classes": "", "class-order": "another order", "roles": ""}),
        (Mixes, {"image-counts": "seven images, together and apart"}),
        (LooksAround, {"plans-agree": "planned and the reference plan"}),
        (Loud, {"quiet": "prints 'building'", "no-network": "example.org", "no-global-state": "changes"}),
        (Speechless, {"roles": "ValueError: seen or unseen?"}),
        (Hoards, {"memory": "numbers in tensors that the method keeps"}),
        (Crashes, {"fits": "ZeroDivisionError: one over none (faulty.py, line 2"}),  # one cause is one failure
        (Misspelt, {"hook-names": "`routes` is never called by vlmadapt; is it meant to be `route`?"}),
        (OneHook, {"fits": "`hooks` returns a single hook; yield it, or return a list of hooks."}),
        (NoHook, {"fits": "`hooks` gives a Parameter; make hooks with `prompt`"}),
        (WideBranch, {"fits": "the branch at mlp of block 1 (from 0) of the image tower gives 7 values per token"}),
        (WideToken, {"fits": "the tokens 'injected' at layer 1 are 7 wide; tokens of the image tower are 64"}),
        (Untouched, {"card": "says that it works inside the text tower and does not"}),
        (Drifts, {"image-counts": "seven images, together and apart"}),
        (Still, {"card": "stands in the track 'few-shot'", "streams": "no answer depends on the images before it"}),
        (StaysBehind, {"one-device": "aten::mul.Tensor at faulty.py:"}),
        (Waits, {"no-host-waits": "_local_scalar_dense at faulty.py:"}),
        (Varies, {"no-host-waits": "takes other shapes or numbers"}),
    ],
)
def test_each_fault_is_found_and_explained(
    method: type[Method], wrong: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KIT_WAS_HERE", "")
    found = failures(method, *wrong)
    assert found.keys() == wrong.keys()
    for check, message in wrong.items():
        assert message in found[check]
        assert "How to fix it: " in found[check]


def test_one_cause_is_one_failure() -> None:
    results = list(run_checks(MethodUnderTest(WideToken, backbone=shallow()), quick=True))
    assert [result.check for result in results if not result.ok] == ["fits"]


def test_a_method_that_says_that_it_knows_only_its_classes_is_not_asked_for_others() -> None:
    tested = MethodUnderTest(KnowsItsOwn, backbone=shallow())
    skipped = {r.check: r.message for r in run_checks(tested, quick=True) if r.status is Status.SKIPPED}
    assert all("knows only the classes" in skipped[check] for check in ("unseen-classes", "added-class", "roles"))
    assert failures(KnowsItsOwn) == {}, "its classes in another order are put in its own"


def test_a_method_without_options_is_told_to_have_a_config() -> None:
    class Bare(Method):
        """It has no options."""

    with pytest.raises(PluginError, match="Bare has no `Config`; make it a dataclass"):
        MethodUnderTest(Bare)


def test_two_processes_answer_otherwise_where_answers_depend_on_earlier_images() -> None:
    for method, agrees in ((Good, True), (Drifts, False)):
        tested = MethodUnderTest(method, backbone=shallow())
        shares = [tested.answers(tested.classifier(tested.build()), rank, 2) for rank in range(2)]
        with nullcontext() if agrees else pytest.raises(CheckFailed, match=r"one process and of two.*streams = True"):
            _answers_as_one_process(tested, tested.build().state_dict(), shares)


def test_a_stream_is_checked_with_options_that_let_images_in() -> None:
    (check,) = [check for check in checks() if check.name == "streams"]
    check(MethodUnderTest(Still, {"strength": 0.0}, shallow()))


def test_a_class_more_is_looked_for_late_in_a_stream_too() -> None:
    class Late(Still):
        """From the tenth image on, scores depend on the number of classes."""

        def route(self, fwd: ForwardPass, role: Role) -> Tensor:
            before = self.seen.clone()
            self.seen += len(fwd.images)
            return fwd.zero_shot.logits * (1 + len(fwd.names) * (before + len(fwd.images) > 9))

    assert "with and without one more class" in failures(Late, "added-class")["added-class"]


def test_a_dynamic_step_may_wait() -> None:
    (check,) = [check for check in checks() if check.name == "no-host-waits"]
    with pytest.raises(NotApplicable, match="dynamic_step"):
        check(MethodUnderTest(Admits))


def test_text_features_that_are_kept_too_long_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Texts(Good):
        """Its hook is in the text tower, so text features depend on it."""

        touches = (TEXT,)

        def hooks(self) -> Iterable[Hook]:
            yield adapt(TEXT, 1, self.vector.expand_as, MLP)

    assert failures(Texts, "keeps-up") == {}
    monkeypatch.setattr(MethodState, "equals", lambda self, other: True)
    assert "they differ" in failures(Texts, "keeps-up")["keeps-up"]


def test_options_that_are_changed_are_seen() -> None:
    class Frozen(Good):
        """It computes a number from its options once."""

        Config = Strong

        def route(self, fwd: ForwardPass, role: Role) -> Tensor:
            self._strength = self.__dict__.get("_strength", [self.config.strength])
            return fwd.logits() * self._strength[0]

    assert "all plain numbers of the method" in failures(Frozen, "keeps-up")["keeps-up"]


def test_limitations_are_expected_and_must_be_real() -> None:
    class Limited(Speechless):
        """It says so."""

        limitations: ClassVar[dict[str, str]] = {"roles": "it asks back", "quiet": "it does not, in fact"}

    outcomes = {o.check: o for o in run_checks(MethodUnderTest(Limited, backbone=shallow()), quick=True)}
    assert outcomes["roles"].status is Status.EXPECTED
    assert outcomes["roles"].message == "it asks back"
    assert outcomes["quiet"].status is Status.UNEXPECTED
    assert not outcomes["quiet"].ok


def test_a_limitation_must_name_a_check() -> None:
    with pytest.raises(PluginError, match=r"unknown check in limitations 'roless'\. Did you mean 'roles'\?"):
        list(run_checks(MethodUnderTest(Good), expected_failures={"roless": ""}))


def test_advice_names_the_rules_that_are_lost() -> None:
    assert advice(MethodUnderTest(Good, backbone=shallow())) == []
    early = advice(MethodUnderTest(Good, {"layer": 0}, shallow()))
    assert [line.partition(":")[0] for line in early] == ["frozen_layers"]


def test_old_names_still_work_and_say_what_to_write() -> None:
    with pytest.warns(DeprecationWarning, match=r"write vlmadapt\.testing\.MethodUnderTest"):
        assert vlmadapt.testing.Subject is MethodUnderTest
    with pytest.warns(DeprecationWarning, match=r"write vlmadapt\.testing\.CheckResult"):
        assert vlmadapt.testing.Outcome is CheckResult


def test_the_tiny_clip_is_the_same_for_the_same_seed() -> None:
    assert shallow(5).fingerprint() == shallow(5).fingerprint() != shallow(6).fingerprint()
