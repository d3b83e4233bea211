from __future__ import annotations

import torch
from torch import nn

from tests.plugins.few_shot import FewShots
from tests.plugins.prompt_methods import build
from vlmadapt.core.support_method import assign, collect
from vlmadapt.plugin import IMAGE


def test_assigned_values_are_copies_of_any_size_in_the_same_parameter() -> None:
    parameter, values = nn.Parameter(torch.zeros(0, 3)), torch.ones(2, 3)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    assign(parameter, values)
    parameter.sum().backward()
    optimizer.step()
    torch.testing.assert_close(parameter.data, torch.zeros(2, 3))
    torch.testing.assert_close(values, torch.ones(2, 3))


@torch.no_grad()
def test_features_and_labels_of_all_batches_are_collected_in_order() -> None:
    method = build("gda")
    support = FewShots(method)
    features, labels = collect(next(support.epochs(augmented=False)))
    torch.testing.assert_close(labels, support.train[1])
    torch.testing.assert_close(
        features, torch.cat([x.features(IMAGE) for x in next(support.epochs(augmented=False))]), rtol=1e-5, atol=1e-5
    )


def test_without_batches_nothing_is_collected() -> None:
    features, labels = collect([])
    assert (len(features), len(labels)) == (0, 0)
