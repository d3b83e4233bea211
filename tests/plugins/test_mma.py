from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.plugins.prompt_methods import backbone, build, disturb, forward, published_count
from vlmadapt.core.plan import derive
from vlmadapt.core.templates import Template
from vlmadapt.plugin import BackboneError, DataError

EVERYWHERE: dict[str, Any] = {"layers": [1, 2, 3], "width": 8, "scale": 0.2}


def test_published_number_of_parameters() -> None:
    assert published_count("mma") == 674_560


def test_without_its_branches_it_is_zero_shot_clip() -> None:
    method = build("mma", **EVERYWHERE)
    x = forward(method)
    assert not torch.allclose(x.logits(), x.zero_shot.logits, atol=1e-2)
    for bottleneck in (*method.text.values(), *method.image.values()):
        torch.nn.init.zeros_(bottleneck.up.weight)
        torch.nn.init.zeros_(bottleneck.up.bias)
    x = forward(method)
    torch.testing.assert_close(x.logits(), x.zero_shot.logits, rtol=1e-5, atol=1e-4)


def gradients(scaled: bool) -> dict[str, Tensor]:
    method = build("mma", scaled_gradients=scaled, **EVERYWHERE)
    disturb(*method.parameters())
    (_, _, loss), = method.losses(forward(method))  # fmt: skip
    loss.backward()
    return {name: p.grad for name, p in method.named_parameters()} | {"loss": loss.detach()}


def test_gradients_of_every_map_are_scaled_and_those_below_are_true() -> None:
    """Maps of lower blocks get their gradient through upper branches: a wrong one there would change the factor."""
    true, scaled = gradients(False), gradients(True)
    torch.testing.assert_close(scaled.pop("loss"), true.pop("loss"))
    assert true["text.1.down.weight"].abs().max() > 0
    for name, gradient in true.items():
        torch.testing.assert_close(scaled[name], gradient / EVERYWHERE["scale"], rtol=1e-3, atol=1e-6)


def test_one_middle_map_serves_both_towers() -> None:
    method = build("mma", **EVERYWHERE)
    first = forward(method)
    before = first.text(), first.image()
    disturb(method.shared["2"].weight)
    after = forward(method)
    assert not torch.allclose(after.text(), before[0], atol=1e-4)
    assert not torch.allclose(after.image(), before[1], atol=1e-4)
    assert len({id(p) for p in method.shared.parameters()}) == len(method.shared.state_dict()) == 2 * 3


def test_the_template_is_its_own_or_the_data_sets() -> None:
    templates = [Template.parse("a sketch of {}.")]
    own = derive(build("mma", **EVERYWHERE).hooks(), backbone(), templates)
    theirs = derive(build("mma", template="", **EVERYWHERE).hooks(), backbone(), templates)
    assert [t.text for t in (*own.prompts, *theirs.prompts)] == ["a photo of a {}.", "a sketch of {}."]


@pytest.mark.parametrize("layers", [[], [0, 1], [2, 2]])
def test_layers_are_counted_from_one(layers: list[int]) -> None:
    with pytest.raises(DataError, match="from 1 on"):
        build("mma", layers=layers)


def test_a_block_that_is_not_there_is_refused() -> None:
    with pytest.raises(BackboneError, match="layer 4"):
        forward(build("mma", layers=[4])).text()
