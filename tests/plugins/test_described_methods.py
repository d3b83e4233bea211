"""MMA++, HiCroPL, CoPrompt and TIMO: limits in which they are simpler methods, and what they must not change."""

from __future__ import annotations

from typing import Any, cast

import open_clip
import pytest
import torch
import torch.nn.functional as F

from vlmadapt.core.classifier import Classifier
from vlmadapt.core.hooks import BlockAdapter
from vlmadapt.core.method import Method, Task
from vlmadapt.plugin import Support, method_class, teacher
from vlmadapt.roles import SEEN
from vlmadapt.testing import MethodUnderTest, tiny_clip
from vlmadapt_heads.samples import Samples
from vlmadapt_heads.timo import TIMO, gaussians, guide

NAMES = ("cat", "red_fox")
IMAGES = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TEXTS = {"cat": ["a cat."], "red fox": ["a red fox.", "an orange animal with a bushy tail."]}


def build(name: str, **options: Any) -> Method:
    torch.manual_seed(0)
    cls = method_class(name)
    return cls(cls.Config(**options), tiny_clip(), Task(NAMES, ()))


def scores(method: Method) -> torch.Tensor:
    classifier = Classifier(tiny_clip(), method, ("a photo of a {}.",), descriptions=TEXTS)
    return classifier.scores(IMAGES, NAMES, SEEN)


def first_branch(method: Method, x: torch.Tensor) -> torch.Tensor:
    hook = next(iter(method.hooks()))
    assert isinstance(hook, BlockAdapter)
    return hook.branch(x)


def test_mmapp_without_its_branches_is_the_ensemble_of_templates() -> None:
    ensemble = method_class("clip")
    templates = [template("{}") for template in open_clip.OPENAI_IMAGENET_TEMPLATES]

    class Ensemble(ensemble):  # type: ignore[misc, valid-type]
        def hooks(self) -> Any:
            return [teacher(*templates)]

    plain = Ensemble(ensemble.Config(), tiny_clip(), Task(NAMES, ()))
    torch.testing.assert_close(scores(build("mma++", test_scale=0.0)), scores(plain), rtol=1e-4, atol=1e-4)


def test_mmapp_trains_at_its_own_scale_after_a_test() -> None:
    method = build("mma++", texts="descriptions", scale=1.0, test_scale=0.0, dropout=0.0)
    x = torch.randn(4, tiny_clip().text.width)
    trained = first_branch(method, x)
    scores(method)
    assert not method.training
    assert not first_branch(method, x).any()
    assert torch.equal(first_branch(method.train(), x), trained)


def test_mmapp_is_of_the_track_of_its_texts() -> None:
    found = {texts: MethodUnderTest("mma++", {"texts": texts}) for texts in ("templates", "descriptions")}
    tracks = {texts: tested.cls.track_for(tested.config) for texts, tested in found.items()}
    assert tracks == {"templates": "few-shot", "descriptions": "descriptions"}


def test_published_hicropl_overwrites_prompts_in_training_alone() -> None:
    tested = MethodUnderTest("hicropl", {"published": True})
    method = tested.build()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    classifier = tested.classifier(method)
    for _ in range(2):
        tested.scores(classifier)
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())
    shots = tested.shots()
    list(method.train().losses(classifier.forward(shots.images[:4], shots.names, shots.labels[:4])))
    changed = {
        name.partition(".")[0] for name, value in method.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed == {"text", "image"}


def test_coprompt_without_its_adapters_is_maple() -> None:
    coprompt, maple = build("coprompt", image_share=0.0, text_share=0.0), build("maple")
    maple.load_state_dict({k: v for k, v in coprompt.state_dict().items() if "adapter" not in k})
    torch.testing.assert_close(scores(coprompt), scores(maple))


def test_timo_weighs_equally_where_images_do_not_choose() -> None:
    features = [F.normalize(torch.randn(n, 8), dim=-1) for n in (1, 3)]
    images = F.normalize(torch.randn(2, 8), dim=-1)
    expected = F.normalize(torch.stack([f.mean(0) for f in features]), dim=-1)
    torch.testing.assert_close(guide(features, images, gamma=0.0).text, expected)
    chosen = guide(features, images, gamma=1e4)
    closest = features[1][(features[1] @ images[1]).argmax()]
    torch.testing.assert_close(chosen.text[1], closest)
    torch.testing.assert_close(chosen.instances[1][0], closest)


def test_timo_takes_the_same_share_of_each_class() -> None:
    features = [F.normalize(torch.randn(n, 8), dim=-1) for n in (2, 4)]
    guided = guide(features, F.normalize(torch.randn(2, 8), dim=-1), gamma=1.0)
    samples = Samples(F.normalize(torch.randn(4, 8), dim=-1), torch.tensor([0, 0, 1, 1]))
    kept = zip(guided.instances, guided.closeness, (1, 2), strict=True)
    texts = [described[:n] * near[:n, None] for described, near, n in kept]
    half = torch.stack([torch.cat([text, samples.features[2 * i : 2 * i + 2]]).mean(0) for i, text in enumerate(texts)])
    weight, bias = gaussians(guided, samples, 0.5)
    torch.testing.assert_close(bias, -torch.tensor(2.0).log() - (weight * half).sum(-1) / 2)


def test_timo_weighs_equally_where_no_gamma_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    described = tuple(F.normalize(torch.randn(3, 8), dim=-1) for _ in range(2))
    images = F.normalize(torch.randn(2, 8), dim=-1)
    samples = Samples(F.normalize(torch.randn(4, 8), dim=-1), torch.tensor([0, 0, 1, 1]))
    method = build("timo", search="full")
    assert isinstance(method, TIMO)
    monkeypatch.setattr(method, "features", lambda support: (described, images, samples))
    of_no_class = Samples(samples.features, torch.full((4,), -1))
    (text, _, _), *_ = method.candidates(cast(Support, None), of_no_class)
    torch.testing.assert_close(text, F.normalize(torch.stack([d.mean(0) for d in described]), dim=-1))
