"""What is shown next to the bar of a training run."""

from __future__ import annotations

from vlmadapt.training.progress import TrainingProgress


def test_numbers_that_were_not_read_yet_are_those_of_the_epoch_before_and_never_zero() -> None:
    progress = TrainingProgress(epoch=1, steps=4, seconds=2.0)
    assert progress.summary(8) == "epoch 2  16 img/s"
    progress.history = [{"epoch": 1, "loss": 1.5, "train_accuracy": 0.25}]
    assert progress.summary(8) == "epoch 2  loss 1.500  acc 25.0% in epoch 1  16 img/s"
    progress.sums = {"images": 8.0, "loss": 8.0, "correct": 4.0}
    assert progress.summary(8) == "epoch 2  loss 1.000  acc 50.0%  16 img/s"
