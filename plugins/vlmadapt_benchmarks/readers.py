"""Readers of the authors' annotations, for data sets without CoOp's split file."""

from __future__ import annotations

import re
from errno import ENOENT
from functools import partial
from pathlib import Path
from typing import Any

from vlmadapt.plugin import read_json, read_text
from vlmadapt_benchmarks.splits import (
    Item,
    Reader,
    Split,
    class_folders,
    hold_out,
    image_files,
    split_classes,
    split_folders,
)

EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}
CALTECH_NAMES = {"airplanes": "airplane", "Faces": "face", "Leopards": "leopard", "Motorbikes": "motorbike"}
CALTECH_IGNORED = ("BACKGROUND_Google", "Faces_easy")


def folders_in(images: str, **changes: Any) -> Reader:
    """Class folders in a folder called `images`, split at random (see `split_folders`)."""
    return partial(_read_folders, images=images, changes=changes)


def _read_folders(folder: Path, images: str, changes: dict[str, Any]) -> Split:
    return split_folders(folder / images, **changes)


def read_pets(folder: Path) -> Split:
    """OxfordPets: `annotations/{trainval,test}.txt` with lines `file label species breed`."""

    def items(file: str) -> list[Item]:
        found = []
        for line in _lines(folder / "annotations" / file):
            stem, label, _, _ = line.split(" ")
            found.append(Item(folder / "images" / f"{stem}.jpg", int(label) - 1, stem.rpartition("_")[0].lower()))
        return found

    return hold_out(items("trainval.txt"), items("test.txt"))


def read_cars(folder: Path) -> Split:
    """StanfordCars: MATLAB annotations; the year comes first in a class's name."""
    from scipy.io import loadmat

    names = [str(name[0]) for name in loadmat(_existing(folder / "devkit" / "cars_meta.mat"))["class_names"][0]]

    def items(images: str, file: Path) -> list[Item]:
        found = []
        for record in loadmat(_existing(file))["annotations"][0]:
            label = int(record["class"].item()) - 1
            model, _, year = names[label].rpartition(" ")
            found.append(Item(folder / images / str(record["fname"].item()), label, f"{year} {model}"))
        return found

    trainval = items("cars_train", folder / "devkit" / "cars_train_annos.mat")
    return hold_out(trainval, items("cars_test", folder / "cars_test_annos_withlabels.mat"))


def read_flowers(folder: Path) -> Split:
    """Flowers102: `imagelabels.mat` with a label for each numbered image, and names by label in `cat_to_name.json`."""
    from scipy.io import loadmat

    names: dict[str, str] = read_json(_existing(folder / "cat_to_name.json"))
    files: dict[int, list[Path]] = {}
    for number, label in enumerate(loadmat(_existing(folder / "imagelabels.mat"))["labels"][0], start=1):
        files.setdefault(int(label), []).append(folder / "jpg" / f"image_{number:05}.jpg")
    labels = sorted(files)
    return split_classes([names[str(label)] for label in labels], [files[label] for label in labels])


def read_aircraft(folder: Path) -> Split:
    """FGVCAircraft: the published split into three by variant; lines `number name of the variant`."""
    label = {name: i for i, name in enumerate(_lines(folder / "variants.txt"))}

    def items(part: str) -> list[Item]:
        pairs = (line.split(" ", 1) for line in _lines(folder / f"images_variant_{part}.txt"))
        return [Item(folder / "images" / f"{number}.jpg", label[name], name) for number, name in pairs]

    return Split(items("train"), items("val"), items("test"))


def read_sun(folder: Path) -> Split:
    """SUN397: the first of the published partitions; `/a/airport/indoor` is called 'indoor airport'."""
    label = {name.removeprefix("/"): i for i, name in enumerate(_lines(folder / "ClassName.txt"))}

    def items(part: str) -> list[Item]:
        found = []
        for line in _lines(folder / part):
            path = line.removeprefix("/")
            name = path.rpartition("/")[0]
            found.append(Item(folder / "SUN397" / path, label[name], " ".join(reversed(name.split("/")[1:]))))
        return found

    return hold_out(items("Training_01.txt"), items("Testing_01.txt"))


def read_ucf(folder: Path) -> Split:
    """UCF101: the first of the published splits; the middle frame of `v.avi` is `v.jpg`, `HighJump` is `High_Jump`."""
    lists = folder / "ucfTrainTestlist"
    label = {name: int(number) - 1 for number, name in (line.split(" ") for line in _lines(lists / "classInd.txt"))}

    def items(file: str) -> list[Item]:
        found = []
        for line in _lines(lists / file):
            action, _, video = line.split(" ")[0].partition("/")
            name = "_".join(re.findall("[A-Z][^A-Z]*", action))
            frame = folder / "UCF-101-midframes" / name / f"{video.removesuffix('.avi')}.jpg"
            found.append(Item(frame, label[action], name))
        return found

    return hold_out(items("trainlist01.txt"), items("testlist01.txt"))


def read_imagenet(folder: Path) -> Split:
    """ImageNet: trained on `images/train`, tested on `images/val`, whose folders are the classes' WordNet numbers."""
    names = wordnet_names(folder / "classnames.txt")
    train, test = (_by_folder(folder / "images" / part, names) for part in ("train", "val"))
    return Split(train, [], test)


def variant_in(images: str) -> Reader:
    """A variant of ImageNet with a folder per class, for tests only."""
    return partial(_read_variant, images=images)


def _read_variant(folder: Path, images: str) -> Split:
    return Split([], [], _by_folder(folder / images, wordnet_names(folder / "classnames.txt")))


def read_imagenet_v2(folder: Path) -> Split:
    """ImageNetV2: folders are named by class index, 0 to 999."""
    names = list(wordnet_names(folder / "classnames.txt").values())
    images = folder / "imagenetv2-matched-frequency-format-val"
    items = [Item(file, i, name) for i, name in enumerate(names) for file in image_files(images / str(i))]
    return Split([], [], items)


def wordnet_names(file: Path) -> dict[str, str]:
    """ImageNet's class names by WordNet number, in the order of the classes.

    Without the file, whose lines are `number name`, they are those that CLIP's authors chose, which it holds as well.
    """
    if file.is_file():
        pairs = (line.split(" ", 1) for line in _lines(file))
        return {number: name.strip() for number, name in pairs}
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data.imagenet_info import ImageNetInfo

    return dict(zip(ImageNetInfo().label_names(), IMAGENET_CLASSNAMES, strict=True))


def _by_folder(images: Path, names: dict[str, str]) -> list[Item]:
    return [
        Item(file, label, names[folder.name])
        for label, folder in enumerate(class_folders(images))
        for file in image_files(folder)
    ]


def _lines(file: Path) -> list[str]:
    return [line.strip() for line in read_text(_existing(file)).splitlines() if line.strip()]


def _existing(file: Path) -> Path:
    """The file itself.

    Raises:
        FileNotFoundError: it does not exist; scipy's own error does not name it.
    """
    if not file.is_file():
        raise FileNotFoundError(ENOENT, "is missing", str(file))
    return file
