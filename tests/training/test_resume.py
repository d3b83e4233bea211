"""A resumed run ends with the same bits as an uninterrupted one."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.data.pictures import picture
from tests.world import World, metrics, outcome, result
from vlmadapt import FitResult, FitSettings, VlmadaptError, fit
from vlmadapt.runs.interrupt import Interrupted, stop_requests
from vlmadapt.runs.progress import Reporter
from vlmadapt.training import loop, observers

STEPS = 3
"""Twelve images in batches of four."""

ANYTHING = FitSettings(method="taken from the run")


@contextmanager
def after_step(number: int, act: Callable[[], object]) -> Iterator[None]:
    """Do something after step `number` of all, from 1."""
    original = Reporter.update

    def update(self: Reporter, completed: int, numbers: str) -> None:
        original(self, completed, numbers)
        if completed == number:
            act()

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Reporter, "update", update)
        yield


def ask_to_stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def undisturbed(world: World) -> Callable[..., Path]:
    """The folder of an uninterrupted run, made once for each kind."""

    def run(method: str, optimizer: str) -> Path:
        folder = world.root / f"undisturbed-{method}-{optimizer}"
        if not folder.exists():
            world.fit(folder, method, train={"optimizer": optimizer})
        return folder

    return run


# A request takes effect after the next step: 2 stops at the end of an epoch, 8 and 9 at the very end.
@pytest.mark.parametrize(
    ("optimizer", "stop"),
    [("sgd", 1), ("adam", 1), *(("adamw", k) for k in (1, STEPS - 1, STEPS, 3 * STEPS - 1, 3 * STEPS))],
)
def test_an_interrupted_run_resumes_to_the_same_bits(
    world: World, undisturbed: Callable[..., Path], tmp_path: Path, optimizer: str, stop: int
) -> None:
    with after_step(stop, ask_to_stop), pytest.raises(Interrupted, match=f"fit --resume {tmp_path / 'run'}"):
        world.fit(tmp_path / "run", train={"optimizer": optimizer})
    assert not (tmp_path / "run" / "result.json").exists()
    fit(ANYTHING, resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(undisturbed("mmrl", optimizer))


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("clip-lora", "proda", "clap")]


@pytest.mark.parametrize("method", ["promptsrc", "tip-adapter-f", "lp++", *SLOW])
def test_averages_caches_and_random_numbers_of_a_method_are_restored(
    world: World, undisturbed: Callable[..., Path], tmp_path: Path, method: str
) -> None:
    with after_step(STEPS + 1, ask_to_stop), pytest.raises(Interrupted):
        world.fit(tmp_path / "run", method, train={"optimizer": "sgd"})
    fit(ANYTHING, resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(undisturbed(method, "sgd"))


@pytest.mark.parametrize(
    ("method", "stop"),
    [*(("2sfs", k) for k in (STEPS - 1, STEPS, STEPS + 1)), pytest.param("dpc", 2 * STEPS + 1, marks=pytest.mark.slow)],
)
def test_a_second_stage_of_training_starts_once(
    world: World, undisturbed: Callable[..., Path], tmp_path: Path, method: str, stop: int
) -> None:
    """Stopped before, at and after the change of stage: of three epochs, 2sfs has two in the second one, dpc one."""
    with after_step(stop, ask_to_stop), pytest.raises(Interrupted):
        world.fit(tmp_path / "run", method, train={"optimizer": "adamw"})
    fit(ANYTHING, resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(undisturbed(method, "adamw"))


def test_a_run_may_be_stopped_again_and_again(world: World, undisturbed: Callable[..., Path], tmp_path: Path) -> None:
    with after_step(1, ask_to_stop), pytest.raises(Interrupted):
        world.fit(tmp_path / "run", train={"optimizer": "adamw"})
    for stop in (3, 5, 7):
        with after_step(stop, ask_to_stop), pytest.raises(Interrupted):
            fit(ANYTHING, resume=tmp_path / "run")
    fit(ANYTHING, resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(undisturbed("mmrl", "adamw"))


def test_a_killed_run_resumes_from_the_last_save(
    world: World, undisturbed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def power_failure() -> None:
        raise SystemExit

    monkeypatch.setattr(observers, "SAVE_EVERY", 0.0)
    with after_step(5, power_failure), pytest.raises(SystemExit):
        world.fit(tmp_path / "run", train={"optimizer": "adamw"})
    fit(ANYTHING, resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(undisturbed("mmrl", "adamw"))


def test_a_run_without_a_saved_state_starts_over(
    world: World, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    def power_failure() -> None:
        raise SystemExit

    with after_step(1, power_failure), pytest.raises(SystemExit):
        world.fit(tmp_path / "run", train={"optimizer": "adamw"})
    assert not (tmp_path / "run" / "state.safetensors").exists()
    fit(ANYTHING, resume=tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(undisturbed("mmrl", "adamw"))


@pytest.mark.parametrize("method", ["mmrl", "tip-adapter-f", "clip"])
def test_resuming_a_finished_run_trains_nothing_and_gives_the_same_numbers(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    folder = world.fit(tmp_path / "run", method).folder
    before = {"weights": (folder / "adapter" / "adapter_model.safetensors").read_bytes(), "result": result(folder)}

    def step(*_: object) -> None:
        raise AssertionError("a finished run was trained")

    monkeypatch.setattr(loop.TrainingLoop, "_step", step)
    fit(ANYTHING, resume=folder)
    after = {"weights": (folder / "adapter" / "adapter_model.safetensors").read_bytes(), "result": result(folder)}
    assert after == before


def test_a_run_whose_data_have_changed_is_not_resumed(world: World, tmp_path: Path) -> None:
    changed = World.make(tmp_path / "changed")
    with after_step(STEPS, ask_to_stop), pytest.raises(Interrupted):
        changed.fit(tmp_path / "run")
    state = (tmp_path / "run" / "state.safetensors").read_bytes()
    picture(changed.pictures / "red_fox" / "new.png")
    with pytest.raises(VlmadaptError, match=r"the data of '.*run' have changed .* cannot be resumed"):
        fit(ANYTHING, resume=tmp_path / "run")
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == state


def test_a_damaged_state_is_named(base_to_novel: FitResult, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(base_to_novel.folder, folder)
    (folder / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(VlmadaptError, match=r"the state '.*state.safetensors' cannot be read"):
        fit(ANYTHING, resume=folder)


@pytest.mark.parametrize("name", ["config.yaml", "data.json"])
@pytest.mark.parametrize("content", ["{", "[]", "method: 3", ""])
def test_a_damaged_run_folder_is_named(base_to_novel: FitResult, tmp_path: Path, name: str, content: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(base_to_novel.folder, folder)
    (folder / name).write_text(content)
    with pytest.raises(VlmadaptError, match=rf"{name}' is damaged"):
        fit(ANYTHING, resume=folder)


def test_signals_that_arrive_together_are_one_request() -> None:
    with stop_requests() as asked:
        ask_to_stop()
        ask_to_stop()
    assert asked


def test_a_second_request_breaks_off_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with stop_requests() as asked, pytest.raises(KeyboardInterrupt):
        ask_to_stop()
        asked[0] -= 10
        ask_to_stop()
    assert asked


def test_handlers_of_signals_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_training_in_a_thread_leaves_signals_alone(world: World, tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            world.fit(tmp_path / "run", train={"epochs": 1})
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()  # without a timeout: a thread left training would draw from the next test's random numbers
    assert not failed
    assert len(metrics(tmp_path / "run")) == 1


def test_runs_in_two_threads_draw_the_numbers_that_each_draws_alone(
    world: World, undisturbed: Callable[..., Path], tmp_path: Path
) -> None:
    """ProDA draws from torch's global generator in each step."""
    expected = undisturbed("proda", "sgd")
    threads = [
        threading.Thread(target=world.fit, args=(tmp_path / name, "proda"), kwargs={"train": {"optimizer": "sgd"}})
        for name in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcome(tmp_path / "a") == outcome(tmp_path / "b") == outcome(expected)
