"""What all methods on cached features have in common."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.plugins.few_shot import FewShots
from tests.plugins.heads import prepared
from tests.plugins.prompt_methods import TEMPLATE, backbone, forward
from vlmadapt.core.adapter import load_adapter, save_adapter
from vlmadapt.plugin import SEEN, UNKNOWN, UNSEEN, DataError

UNEVEN = (4, 1, 3, 2, 2)
BOUND = ("taskres", "zs-lp", "clap", "crossmodal", "lp++", "gda", "ape", "ape-t", "ss-text")


@pytest.mark.parametrize("name", [*BOUND, "gda-unseen", "prolip"])
@torch.no_grad()
def test_a_saved_adapter_answers_as_before(name: str, tmp_path: Path) -> None:
    method = prepared(name, {"shots": UNEVEN})
    method.finish(FewShots(method, shots=UNEVEN))
    save_adapter(tmp_path, name, method, backbone(), [TEMPLATE])
    loaded, _ = load_adapter(tmp_path, backbone(), ("otter", "comet"))
    torch.testing.assert_close(loaded.route(forward(loaded), SEEN), method.route(forward(method), SEEN))


@pytest.mark.parametrize("name", BOUND)
@torch.no_grad()
def test_other_classes_are_refused(name: str) -> None:
    method = prepared(name, {"shots": UNEVEN})
    with pytest.raises(DataError, match="cannot predict others"):
        method.route(forward(method, names=("otter", "comet")), UNKNOWN)
    with pytest.raises(DataError, match="cannot predict others"):
        method.route(forward(method), UNSEEN)
