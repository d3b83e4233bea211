from __future__ import annotations

import torch
import torch.nn.functional as F

from tests.plugins.heads import asked, prepared
from tests.plugins.prompt_methods import TEMPLATE, disturb
from vlmadapt.core.method import total
from vlmadapt.plugin import TEXT, ForwardPass, prompt
from vlmadapt_heads.crossmodal import Drawn


def scores(x: ForwardPass, feature: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    return x.scale * F.cosine_similarity(feature, prototypes, dim=-1)


def texts(x: ForwardPass) -> torch.Tensor:
    """(templates, classes, joint)."""
    return x.other(hooks=[prompt(TEMPLATE, "itap of a {}.")]).features(TEXT)


@torch.no_grad()
def test_half_of_the_loss_is_that_of_the_texts() -> None:
    method = prepared("crossmodal")
    disturb(method.prototypes)
    x = asked(method)
    p = method.prototypes
    images = [F.cross_entropy(scores(x, f, p), y) for f, y in zip(x.image(), x.labels, strict=True)]
    worded = [F.cross_entropy(scores(x, f, p), torch.tensor(c)) for each in texts(x) for c, f in enumerate(each)]
    assert len(worded) == 10
    expected = torch.stack(images).mean() / 2 + torch.stack(worded).mean() / 2
    torch.testing.assert_close(total(method.losses(x)), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_published_batches_mix_images_with_texts_under_labels_of_another_order() -> None:
    method = prepared("crossmodal", published=True)
    disturb(method.prototypes)
    x = asked(method)
    # Row 6 is the second template's text of class 1; the code that labels them counts class by class: 6 // 2.
    method.draw = lambda batch, texts, device: Drawn(
        torch.tensor([False, True, False, False]), torch.tensor([0, 6, 0, 0])
    )
    features = [x.image()[0], texts(x)[1, 1], x.image()[2], x.image()[3]]
    labels = torch.tensor([0, 3, 1, 4])
    expected = [F.cross_entropy(scores(x, f, method.prototypes), y) for f, y in zip(features, labels, strict=True)]
    torch.testing.assert_close(total(method.losses(x)), torch.stack(expected).mean(), rtol=1e-4, atol=1e-4)


def test_drawn_batches_are_half_texts_of_every_class() -> None:
    torch.manual_seed(0)
    drawn = prepared("crossmodal", published=True).draw(2000, 10, torch.device("cpu"))
    assert 0.45 < drawn.is_text.float().mean() < 0.55
    assert set(drawn.rows.tolist()) == set(range(10))
