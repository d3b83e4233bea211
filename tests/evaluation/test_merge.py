"""A merged checkpoint, loaded by open_clip alone, gives the features and scores of the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from tests import small
from vlmadapt import Backbone, load_backbone
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.hooks import AFTER_MLP, BLOCK, MLP, NORM1, adapt
from vlmadapt.core.merge import affine, merged_model
from vlmadapt.core.method import Task
from vlmadapt.core.plan import derive
from vlmadapt.core.templates import Template
from vlmadapt.errors import AdapterError
from vlmadapt.evaluation import merge as merging
from vlmadapt.evaluation.merge import Merged, merge
from vlmadapt.plugin import IMAGE, method_class
from vlmadapt.roles import SEEN
from vlmadapt.runs.run import Run

TEMPLATE = "a photo of a {}."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(small.backbone(tmp_path_factory.mktemp("clip")).name)


@pytest.fixture(scope="module")
def backbone(folder: Path) -> Backbone:
    return load_backbone(str(folder))


class FakeRun:
    """A run folder with what merging asks of it."""

    def __init__(self, name: str, classifier: Classifier):
        self.name, self.classifier, self.adapter = name, classifier, None

    def settings(self) -> Any:
        return type("Settings", (), {"backbone": "", "method": self.name})


def trained(name: str, backbone: Backbone, **options: Any) -> Classifier:
    """A method whose parameters have moved."""
    cls = method_class(name)
    method = cls(cls.Config(**options), backbone, Task(small.NAMES, (TEMPLATE,))).eval()
    generator = torch.Generator().manual_seed(5)
    for parameter in method.parameters():
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return Classifier(backbone, method, (TEMPLATE,))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clip-lora", {"matrices": ["q", "k", "v", "o"]}),
        ("prolip", {}),
        ("mail", {"end": 3, "coupled_end": 3, "rank": 4}),
        ("2sfs", {"template": ""}),
        ("wise-ft", {"wraps": "prolip"}),
    ],
)
def test_open_clip_alone_scores_as_the_run_does(
    name: str,
    options: dict[str, Any],
    folder: Path,
    backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = trained(name, backbone, **options)
    monkeypatch.setattr(Run, "open", lambda _: FakeRun(name, classifier))
    monkeypatch.setattr(merging, "trained_and_known_classes", lambda _: (list(small.NAMES), []))
    monkeypatch.setattr(merging, "load_classifier", lambda *_: classifier)
    merged = merge("run", tmp_path / "merged.safetensors")
    copied = shutil.copytree(folder, tmp_path / "copy")
    shutil.copy(merged.file, copied / "open_clip_model.safetensors")

    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{copied}")
    images = torch.randn(4, 3, *backbone.image.size)
    texts = [merged.templates[0].format(name.replace("_", " ")) for name in small.NAMES]
    with torch.no_grad():
        found = normalize(model.eval().encode_image(images), dim=-1)
        text = normalize(model.encode_text(open_clip.get_tokenizer("ViT-B-32")(texts, model.context_length)), dim=-1)
        scores = model.logit_scale.exp() * found @ text.T
    expected = classifier.scores(images, small.NAMES, SEEN)
    torch.testing.assert_close(scores, expected, rtol=1e-3, atol=2e-3)
    zero_shot = classifier.forward(images, small.NAMES).zero_shot.logits
    assert float((expected - zero_shot).abs().max()) > 0.1, "the method changes the scores"


@pytest.mark.parametrize(
    ("name", "reason"), [("coop", "injects tokens"), ("mma", "at the site 'block'"), ("taskres", "adds a classifier")]
)
def test_what_no_weight_can_say_is_refused(
    name: str, reason: str, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"mma": {"layers": [2, 3]}}.get(name, {})
    classifier = trained(name, backbone, **options)
    monkeypatch.setattr(Run, "open", lambda _: FakeRun(name, classifier))
    monkeypatch.setattr(merging, "trained_and_known_classes", lambda _: (list(small.NAMES), []))
    monkeypatch.setattr(merging, "load_classifier", lambda *_: classifier)
    with pytest.raises(AdapterError, match=f"'run' cannot be merged: .*{reason}"):
        merge("run", tmp_path / "merged.safetensors")
    assert not list(tmp_path.iterdir())


def test_branches_that_are_not_linear_or_not_foldable_are_refused(backbone: Backbone) -> None:
    width = backbone.image.width
    with pytest.raises(AdapterError, match="not linear"):
        affine(torch.relu, width, torch.zeros(1))
    for branch, site, replace, reason in (
        (nn.Linear(width, width), NORM1, True, "mixes the channels"),
        (nn.Linear(width, width), MLP, False, "'mlp' of a block"),
        (nn.Linear(width, width), BLOCK, False, "'block' of a block"),
        (nn.Tanh(), AFTER_MLP, True, "not linear"),
    ):
        plan = derive([adapt(IMAGE, 1, branch, site, replace=replace)], backbone, (Template.parse(TEMPLATE),))
        with pytest.raises(AdapterError, match=reason):
            merged_model(backbone, plan)


@pytest.mark.parametrize(
    ("name", "merged"),
    [
        ("ViT-B-16:openai", "ViT-B-16:openai:m.safetensors"),
        ("ViT-B-16:openai:w.pt", "ViT-B-16:openai:m.safetensors"),
        ("ViT-B-16:w.pt", "ViT-B-16:m.safetensors"),
    ],
)
def test_it_is_loaded_like_the_checkpoint_it_was_made_from(name: str, merged: str) -> None:
    said = Merged(Path("m.safetensors"), name, (TEMPLATE,), False).how_to_load
    assert said.startswith(f"Load it with --backbone {merged}, ")
