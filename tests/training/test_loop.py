"""The training loop without a run folder: whom it calls, what it counts, when it stops."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from accelerate import Accelerator

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import LossTerm, Method, Support, trainable_count
from vlmadapt.data.loader import Batch
from vlmadapt.errors import PluginError, TrainingError
from vlmadapt.runs.progress import Reporter
from vlmadapt.testing import MethodUnderTest, tiny_clip
from vlmadapt.testing.data import MemorySupport
from vlmadapt.testing.training import STEPS, MemoryBatches, OneProcess
from vlmadapt.training.loop import Observer, TrainingLoop
from vlmadapt.training.observers import ProgressBar
from vlmadapt.training.progress import TrainingProgress
from vlmadapt.training.trainer import StepTrainer

BATCH = 4


class Record(Observer):
    """Notes each call with the position of the loop."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int]] = []

    def _note(self, name: str, loop: TrainingLoop) -> None:
        self.calls.append((name, loop.progress.epoch, loop.progress.step))

    def step_done(self, loop: TrainingLoop, batch: Batch, terms: Sequence[LossTerm]) -> None:
        self._note("step", loop)

    def epoch_done(self, loop: TrainingLoop) -> None:
        self._note("epoch", loop)

    def stopped(self, loop: TrainingLoop) -> None:
        self._note("stopped", loop)


def make_loop(*observers: Observer, method: str = "coop", process: int = 0, processes: int = 1) -> TrainingLoop:
    tested = MethodUnderTest(method, backbone=tiny_clip.__wrapped__(0, 3))
    classifier: Classifier = tested.classifier(tested.build())
    accelerator = OneProcess()
    accelerator.process_index, accelerator.num_processes = process, processes
    trainer = StepTrainer(classifier.method, tested.recipe, cast(Accelerator, accelerator))
    shots = tested.shots()
    batches, support = MemoryBatches(shots, BATCH, trainer.shard), MemorySupport(classifier, shots, shots)
    return TrainingLoop(classifier, shots.names, batches, tested.recipe, trainer, support, observers)


def test_observers_are_called_after_each_step_and_epoch() -> None:
    record = Record()
    make_loop(record).train()
    assert record.calls == [
        ("step", 0, 1), ("step", 0, 2), ("epoch", 1, 0), ("step", 1, 1), ("step", 1, 2), ("epoch", 2, 0)
    ]  # fmt: skip


def test_a_request_stops_after_the_step_that_follows_it() -> None:
    record = Record()
    loop = make_loop(record)
    answers = iter([False, False, True])
    loop.train(stop=lambda: next(answers))
    assert loop.stopped
    assert record.calls[-2:] == [("step", 1, 1), ("stopped", 1, 1)]
    assert loop.progress.sums["images"] == BATCH


@pytest.mark.parametrize(("waited", "said"), [(0.4, "the steps bound the run"), (3.5, "loading bounds the run; more")])
def test_what_bounds_a_run_is_said(waited: float, said: str) -> None:
    loop = make_loop()
    loop.train()
    assert 0 < loop.feed.waited < loop.seconds
    loop.feed.waited, loop.seconds = waited, 10.0
    assert loop.bound.startswith(f"{waited} of 10.0 seconds of training waited for images: {said}")


def test_a_loop_continues_from_the_progress_it_is_given() -> None:
    record = Record()
    loop = make_loop(record)
    loop.progress.epoch, loop.progress.step = 1, 1
    loop.progress.sums = {"images": 4.0, "correct": 4.0, "loss": 40.0, "loss/ce": 40.0}
    loop.train()
    assert record.calls == [("step", 1, 2), ("epoch", 2, 0)]
    (logged,) = loop.progress.history
    assert logged["loss"] > 5  # the mean of 10 for the first four images and of the four of this step
    assert logged["train_accuracy"] in {0.5 + k / 8 for k in range(5)}


def test_the_logged_loss_is_the_mean_over_the_images_of_the_epoch() -> None:
    seen: list[float] = []

    class Note(Observer):
        def step_done(self, loop: TrainingLoop, batch: Batch, terms: Sequence[LossTerm]) -> None:
            seen.append(sum(weight * float(value.detach()) for _, weight, value in terms))

    progress = make_loop(Note()).train()
    means = [sum(seen[i : i + STEPS]) / STEPS for i in range(0, len(seen), STEPS)]
    assert [epoch["loss"] for epoch in progress.history] == pytest.approx(means)
    assert progress.steps == len(seen)


def test_progress_never_shows_numbers_that_were_not_read() -> None:
    progress = TrainingProgress(epoch=4)
    assert progress.summary() == "epoch 5"
    progress.history = [{"epoch": 4, "loss": 0.5, "train_accuracy": 0.75}]
    assert progress.summary() == "epoch 4  loss 0.500  acc 75.0%"
    progress.sums = {"loss": 6.0, "correct": 2.0, "images": 4.0}
    assert progress.summary() == "epoch 5  loss 1.500  acc 50.0%"


def test_the_speed_shown_counts_the_time_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 12.0, 18.0])
    monkeypatch.setattr("vlmadapt.training.observers.time.monotonic", lambda: next(clock))
    said: list[str] = []
    reporter = cast(Reporter, SimpleNamespace(update=lambda steps, text: said.append(text)))
    bar, loop = ProgressBar(reporter), cast(TrainingLoop, SimpleNamespace(progress=TrainingProgress(), method=Method))
    batch = cast(Batch, SimpleNamespace(total=BATCH))
    for _ in range(3):
        bar.step_done(loop, batch, ())
    assert said == ["epoch 1", "epoch 1  2 img/s", "epoch 1  1 img/s"]


def test_an_error_says_in_which_step_it_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop()
    calls = 0

    def losses(fwd: ForwardPass) -> Iterable[LossTerm]:
        nonlocal calls
        calls += 1
        for term in type(loop.method).losses(loop.method, fwd):
            yield term._replace(value=term.value * float("nan")) if calls == 4 else term

    monkeypatch.setattr(loop.method, "losses", losses)
    with pytest.raises(TrainingError, match=r"^the loss is not finite in epoch 2, step 2$"):
        loop.train()


@pytest.mark.parametrize(("method", "shards"), [("coop", [2, 2]), ("plot", [4, 4])])
def test_shards_of_all_processes_weigh_one_together(method: str, shards: list[int]) -> None:
    """A method that compares the images of a batch gets all of them in every process."""
    loops = [make_loop(method=method, process=i, processes=2) for i in range(2)]
    batches = [next(loop.batches.epoch(0)) for loop in loops]
    assert [len(batch.labels) for batch in batches] == shards
    assert {batch.total for batch in batches} == {BATCH}
    assert sum(loop.trainer.weight_of(n, BATCH) for loop, n in zip(loops, shards, strict=True)) == 1.0
    if shards == [2, 2]:
        assert torch.equal(torch.cat([batch.indices for batch in batches]), torch.arange(BATCH))


def test_parameters_may_be_switched_on_and_off_between_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop(method="maple")
    early, late = loop.method.get_parameter("context"), loop.method.get_parameter("couple.weight")
    every = trainable_count(loop.method)
    late.requires_grad_(False)
    values: list[list[torch.Tensor]] = []

    def switch(epoch: int, epochs: int) -> None:
        values.append([early.detach().clone(), late.detach().clone()])
        early.requires_grad_(epoch == 0)
        late.requires_grad_(epoch == 1)

    monkeypatch.setattr(loop.method, "epoch_start", switch)
    loop.train()
    (start, _), (middle, untouched) = values
    assert not torch.equal(middle, start)
    assert torch.equal(early, middle), "an old gradient is not applied again"
    assert not torch.equal(late, untouched)
    assert trainable_count(loop.method) == every - early.numel()
    assert trainable_count(loop.method, loop.progress.trained) == every


def test_parameters_that_the_optimiser_does_not_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop(method="coop")

    def replace(epoch: int, epochs: int) -> None:
        if epoch == 1:
            loop.method.register_parameter("context", torch.nn.Parameter(loop.method.get_parameter("context") + 1))

    monkeypatch.setattr(loop.method, "epoch_start", replace)
    with pytest.raises(PluginError, match="not those that training started with"):
        loop.train()


def test_the_optimiser_starts_again_with_each_cycle() -> None:
    ages: list[float] = []

    class Ages(Observer):
        def step_done(self, loop: TrainingLoop, batch: Batch, terms: Sequence[LossTerm]) -> None:
            ages.extend({float(state["step"]) for state in loop.trainer.optimizer.state.values()})

    loop = make_loop(Ages(), method="clip-lora")
    loop.recipe = replace(loop.recipe, epochs=2, cycles=2)
    loop.train()
    assert ages == [1.0, 2.0, 1.0, 2.0]


def test_a_method_is_told_of_each_cycle_with_the_support_images(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[int, int, bool]] = []

    def cycle_start(method: Method, cycle: int, support: Support) -> None:
        (batch, *_), *_ = support.epochs(augmented=False)
        called.append((cycle, len(batch.labels), torch.is_grad_enabled()))

    monkeypatch.setattr(Method, "cycle_start", cycle_start)
    loop = make_loop()
    loop.recipe = replace(loop.recipe, epochs=5, cycles=(0.6, 0.4))
    loop.train()
    assert [(cycle, grad) for cycle, _, grad in called] == [(0, False), (1, False)]
    assert all(images for _, images, _ in called)


def test_hooks_of_a_method_are_called_around_its_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, int]] = []
    monkeypatch.setattr(Method, "epoch_start", lambda self, epoch, epochs: called.append(("start", epoch)))
    monkeypatch.setattr(Method, "epoch_end", lambda self, epoch, epochs: called.append(("end", epoch)))
    make_loop().train()
    assert called == [("start", 0), ("end", 0), ("start", 1), ("end", 1)]
