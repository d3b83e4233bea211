"""K-shot draws are CoOp's: the rule is written here a second time, with the global generator as Dassl uses it."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from tests.data.pictures import listed
from vlmadapt.data.dataset import Example
from vlmadapt.data.fewshot import sample_shots


@pytest.fixture
def shuffled() -> list[Example]:
    """Classes of 20, 5, 16, 9 and 40 images in no order, as in CoOp's split files."""
    examples = list(listed(20, 5, 16, 9, 40))
    random.Random(7).shuffle(examples)
    return examples


def dassl(seed: int, *sources: tuple[list[Example], int]) -> list[list[Example]]:
    """What Dassl draws from lists of images, one after the other, when it is seeded once."""
    state = random.getstate()
    try:
        random.seed(seed)
        drawn = []
        for examples, shots in sources:
            tracker = defaultdict(list)
            for i, example in enumerate(examples):
                tracker[example.label].append(i)
            chosen = []
            for places in tracker.values():
                chosen.extend(random.sample(places, shots) if len(places) >= shots else places)
            drawn.append([examples[i] for i in chosen])
        return drawn
    finally:
        random.setstate(state)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_same_images_as_coop(shuffled: list[Example], shots: int, seed: int) -> None:
    assert [list(sample_shots(shuffled, shots, seed)[0])] == dassl(seed, (shuffled, shots))


@pytest.mark.parametrize("shots", [1, 16])
def test_validation_images_are_those_of_coop(shuffled: list[Example], shots: int) -> None:
    val = list(listed(6, 3, 9, 2, 8, split="val"))
    random.Random(8).shuffle(val)
    generator = random.Random(3)
    ours = [list(sample_shots(part, n, generator)[0]) for part, n in ((shuffled, shots), (val, min(shots, 4)))]
    assert ours == dassl(3, (shuffled, shots), (val, min(shots, 4)))


def test_a_draw_known_by_value() -> None:
    # Printed by `random.seed(1)` and twice `random.sample(range(10), 3)`.
    drawn, _ = sample_shots(listed(10, 10), 3, seed=1)
    assert [(e.label, e.path.stem) for e in drawn] == [(0, "2"), (0, "1"), (0, "4"), (1, "1"), (1, "7"), (1, "8")]


def test_small_classes_give_all_images_and_are_reported(shuffled: list[Example]) -> None:
    drawn, short = sample_shots(shuffled, 16, seed=1)
    assert Counter(e.label for e in drawn) == {0: 16, 1: 5, 2: 16, 3: 9, 4: 16}
    assert short == {1: 5, 3: 9}


@pytest.mark.parametrize("shots", [None, 0])
def test_no_number_means_all(shuffled: list[Example], shots: int | None) -> None:
    assert sample_shots(shuffled, shots, seed=1) == (tuple(shuffled), {})


def test_global_generator_is_left_alone(shuffled: list[Example]) -> None:
    state = random.getstate()
    sample_shots(shuffled, 4, seed=1)
    assert random.getstate() == state
