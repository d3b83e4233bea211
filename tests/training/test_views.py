"""Several augmented views of an image in a training step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests import small
from tests.data.pictures import class_folder
from tests.world import World
from vlmadapt import Backbone
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Method, Task
from vlmadapt.data.dataset import Example
from vlmadapt.data.device_augment import DeviceAugment
from vlmadapt.data.loader import TrainBatches
from vlmadapt.data.transforms import Views, train_transform

CONFIG = {"size": (24, 24), "mean": (0.5,) * 3, "std": (0.2,) * 3}


class Two(Method):
    Config = type("Config", (), {})
    views_per_step = 2


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return small.backbone(tmp_path_factory.mktemp("clip"))


@pytest.mark.parametrize("device", [False, True])
def test_the_first_view_is_the_one_that_a_step_with_one_view_gets(tmp_path: Path, device: bool) -> None:
    class_folder(tmp_path / "cat", 3)
    examples = [Example(path, 0) for path in sorted((tmp_path / "cat").iterdir())]
    one = DeviceAugment(CONFIG, (0.1, 1.0), 0.5) if device else train_transform(CONFIG, (0.1, 1.0), 0.5)
    two = DeviceAugment(CONFIG, (0.1, 1.0), 0.5, 2) if device else Views(train_transform(CONFIG, (0.1, 1.0), 0.5), 2)
    batches = (next(TrainBatches(examples, t, 3, seed=1, workers=0).epoch(0)).images for t in (one, two))
    single, several = (images.to(torch.device("cpu")) for images in batches)
    assert (single.shape, several.shape) == ((3, 3, 24, 24), (3, 2, 3, 24, 24))
    assert torch.equal(several[:, 0], single)
    assert not torch.equal(several[:, 1], single)
    if device:
        assert two.collate([]).to(torch.device("cpu")).shape == (0, 2, 3, 24, 24)


def test_each_view_has_its_features_and_those_of_the_first_are_the_passes_own(backbone: Backbone) -> None:
    classifier = Classifier(backbone, Two(None, backbone, Task(small.NAMES, ())), ("a photo of a {}.",))
    images, labels = torch.randn(3, 2, 3, 16, 16), torch.tensor([0, 1, 2])
    fwd = classifier.forward(images, small.NAMES, labels)
    for index in (0, 1):
        alone = classifier.forward(images[:, index], small.NAMES)
        torch.testing.assert_close(fwd.view(index).image(), alone.image())
        torch.testing.assert_close(fwd.view(index).zero_shot.image, alone.zero_shot.image)
    torch.testing.assert_close(fwd.image(), fwd.view(0).image())
    assert torch.equal(fwd.view(1).labels, labels)
    kept = fwd.other(keep=torch.tensor([2, 0])).view(1)
    torch.testing.assert_close(kept.image(), fwd.view(1).image()[[2, 0]])
    with pytest.raises(ValueError, match="views_per_step = 3"):
        fwd.view(2)


@pytest.mark.parametrize("augment", ["host", "device"])
def test_fit_gives_a_step_its_views(world: World, tmp_path: Path, augment: str) -> None:
    options = {"tokens": 2, "depth": 2}
    train = {"epochs": 1, **({"augmentation": "crop"} if augment == "device" else {})}
    given = {"options": options, "descriptions": str(world.descriptions), "augment": augment, "train": train}
    found = world.fit(tmp_path / "run", "coprompt", **given)
    assert found.numbers["steps"] > 0
