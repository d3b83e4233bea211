"""A training step of a method does no more work than today; that it waits for nothing is a check of the kit.

`python -m tests.plugins.test_step` prints the table of work, for when it has changed on purpose.
"""

from __future__ import annotations

import pytest

from tests.step import class_names, counted_tokens, operators, training_step
from vlmadapt.testing import MethodUnderTest

WORK = {
    "mmrl": (1421, 520, 1101),
    "coop": (2520, 240, 972),
    "maple": (2376, 336, 1336),
    "promptsrc": (2376, 672, 1483),
}
"""Tokens that a step puts through the blocks of the text and of the image tower, and operators that compute."""

CLASS_COUNT = 40


def work(name: str) -> tuple[int, int, int]:
    """The work of a step that is not the first."""
    subject = MethodUnderTest(name)
    step = training_step(subject, class_names(CLASS_COUNT))
    with counted_tokens(subject.backbone) as tokens:
        step()
    return tokens["text"], tokens["image"], operators(step)


@pytest.mark.parametrize("name", WORK)
def test_a_step_does_no_more_work_than_recorded(name: str) -> None:
    """Exact and the same on every machine; less work is welcome, and is then to be recorded here."""
    found = dict(zip(("text tokens", "image tokens", "operators"), work(name), strict=True))
    recorded = dict(zip(found, WORK[name], strict=True))
    assert all(found[what] <= recorded[what] for what in found), f"{found} instead of {recorded}"


if __name__ == "__main__":
    for method in WORK:
        print(f'    "{method}": {work(method)},')
