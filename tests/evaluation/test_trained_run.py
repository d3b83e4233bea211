"""What a teacher may know of the classes that its student is tested on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from vlmadapt.data.splits import ClassGroup
from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.trained_run import check_teachers
from vlmadapt.roles import SEEN, UNKNOWN, UNSEEN, Role


@pytest.mark.parametrize(
    ("role", "trained", "refused"),
    [
        (SEEN, ("cat", "dog"), False),
        (UNSEEN, ("cat",), True),
        (UNSEEN, ("fox",), False),
        (UNKNOWN, ("cat",), False),
        (UNKNOWN, ("dog", "cat", "fox"), True),
    ],
)
def test_a_teacher_must_not_know_labels_of_unseen_classes(role: Role, trained: tuple[str, ...], refused: bool) -> None:
    teacher = SimpleNamespace(folder="run", trained_classes=trained)
    group = ClassGroup("all", role, ("cat", "dog"), ())
    # A teacher that passes is looked for, to see which images it was trained on; there is no such run.
    expected = "labels of classes that are tested as unseen" if refused else "'run' does not exist"
    with pytest.raises(VlmadaptError, match=expected):
        check_teachers(cast(Any, SimpleNamespace(teachers=[teacher])), [group])
