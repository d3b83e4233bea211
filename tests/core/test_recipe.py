from __future__ import annotations

from vlmadapt.core.recipe import Recipe


def test_steps_per_shot_become_whole_epochs() -> None:
    recipe = Recipe(steps_per_shot=500, epochs=7)
    # 16 shots of 100 classes in batches of 32 are 50 steps an epoch; 8,000 steps are 160 epochs.
    assert recipe.with_epochs(shots=16, steps=50).epochs == 160
    assert recipe.with_epochs(shots=1, steps=3).epochs == 167
    assert Recipe(epochs=7).with_epochs(shots=16, steps=50) == Recipe(epochs=7)


def test_a_cycle_is_a_whole_part_of_the_epochs_and_at_least_one() -> None:
    assert Recipe(epochs=7).cycle == 7
    assert Recipe(epochs=7, cycles=2).cycle == 3
    assert Recipe(epochs=1, cycles=2).cycle == 1
    assert Recipe(epochs=0).cycle == 1
