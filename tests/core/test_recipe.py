from __future__ import annotations

import pytest

from vlmadapt.core.recipe import Recipe
from vlmadapt.errors import SettingError


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
    assert Recipe(epochs=7, cycles=2).cycle_at(6) == (1, 3, 4)
    assert [Recipe(epochs=9, cycles=3).cycle_at(epoch).start for epoch in range(9)] == [0, 0, 0, 3, 3, 3, 6, 6, 6]
    assert Recipe(epochs=1, cycles=2).cycle == 1
    assert Recipe(epochs=0).cycle == 1


def test_cycles_may_have_different_shares_of_the_epochs() -> None:
    recipe = Recipe(epochs=10, cycles=(0.6, 0.4))
    assert [recipe.cycle_at(epoch) for epoch in (0, 5, 6, 9)] == [(0, 0, 6), (0, 0, 6), (1, 6, 4), (1, 6, 4)]
    assert recipe.cycle == 4


@pytest.mark.parametrize(
    ("epochs", "lengths"), [(1, [1]), (2, [1, 1]), (3, [2, 1]), (7, [6, 1]), (0, [])]
)  # fmt: skip
def test_each_cycle_has_an_epoch_where_there_are_enough(epochs: int, lengths: list[int]) -> None:
    recipe = Recipe(epochs=epochs, cycles=(0.9, 0.1))
    assert [cycle.length for cycle in dict.fromkeys(map(recipe.cycle_at, range(epochs)))] == lengths
    assert recipe.cycle == min(lengths, default=1)


@pytest.mark.parametrize("cycles", [(), (0.5, 0.4), (1.5, -0.5), (1.0, 0.0)])
def test_shares_that_do_not_make_up_the_epochs_are_refused(cycles: tuple[float, ...]) -> None:
    with pytest.raises(SettingError, match=r"train\.cycles is .* sum to 1"):
        Recipe(cycles=cycles)
