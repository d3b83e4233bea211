from __future__ import annotations

import pytest

from vlmadapt.core.recipe import Recipe


def test_steps_per_shot_become_whole_epochs() -> None:
    recipe = Recipe(steps_per_shot=500, epochs=7)
    # 16 shots of 100 classes in batches of 32 are 50 steps an epoch; 8,000 steps are 160 epochs.
    assert recipe.with_epochs(shots=16, steps=50).epochs == 160
    assert recipe.with_epochs(shots=1, steps=3).epochs == 167
    assert Recipe(epochs=7).with_epochs(shots=16, steps=50) == Recipe(epochs=7)


@pytest.mark.parametrize(
    ("recipe", "only"),
    [
        (Recipe(epochs=1), True),
        (Recipe(epochs=2), False),
        (Recipe(epochs=1, warmup_epochs=0), False),
        (Recipe(epochs=0), False),
        (Recipe(epochs=4, cycles=4), True),  # each cycle starts with its own warm-up
        (Recipe(epochs=1, steps_per_shot=500), False),  # the epochs follow from the steps
    ],
)
def test_a_training_of_warmup_alone_is_recognised(recipe: Recipe, only: bool) -> None:
    assert recipe.only_warmup is only
    assert ("use more --train.epochs" in recipe.warmup_advice) is only


@pytest.mark.parametrize(
    ("published", "epochs", "warmup"),
    [
        (Recipe(epochs=50, warmup_epochs=10), 25, 5),
        (Recipe(epochs=50, warmup_epochs=10), 100, 10),
        (Recipe(epochs=50, warmup_epochs=1), 10, 0),
        (Recipe(epochs=5, warmup_epochs=1), 5, 1),
        (Recipe(epochs=5, warmup_epochs=5), 4, 3),
        (Recipe(epochs=20, warmup_epochs=1, cycles=2), 2, 0),
    ],
)
def test_warmup_is_shortened_in_proportion_and_leaves_an_epoch(published: Recipe, epochs: int, warmup: int) -> None:
    assert published.shortened_warmup(epochs) == warmup


def test_a_cycle_is_a_whole_part_of_the_epochs_and_at_least_one() -> None:
    assert Recipe(epochs=7).cycle == 7
    assert Recipe(epochs=7, cycles=2).cycle == 3
    assert Recipe(epochs=1, cycles=2).cycle == 1
    assert Recipe(epochs=0).cycle == 1
