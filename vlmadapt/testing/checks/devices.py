"""Check that a method runs on a GPU."""

from __future__ import annotations

from vlmadapt.roles import SEEN, UNSEEN
from vlmadapt.testing.data import CLASSES, OTHERS
from vlmadapt.testing.devices import as_on_a_gpu
from vlmadapt.testing.result import CheckFailed
from vlmadapt.testing.under_test import MethodUnderTest


def one_device(tested: MethodUnderTest) -> None:
    """It trains and answers on a GPU: no tensor that stays on the host meets one on the device."""
    _ = tested.trained
    backbone = tested.backbone
    with as_on_a_gpu([*backbone.parameters(), *backbone.buffers()]) as meetings:
        classifier = tested.fit()
        tested.scores(classifier, CLASSES, SEEN)
        if classifier.method.answers_unseen:
            tested.scores(classifier, OTHERS, UNSEEN)
    if meetings:
        more = f" ({len(meetings) - 1} more places)" if len(meetings) > 1 else ""
        raise CheckFailed(f"with a GPU, {meetings[0]} gets tensors of the host and of the device{more}.")
