"""The 15 data sets in little: the published folders and files, with a few classes and images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.data.pictures import picture

SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")
"""The first ImageNet classes: tench, goldfish, great white shark, tiger shark."""
Row = tuple[str, int, str]


def images(folder: Path, names: list[str]) -> None:
    for name in names:
        picture(folder / name)


def write_split(file: Path, train: list[Row], val: list[Row], test: list[Row]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"train": train, "val": val, "test": test}))


def text(file: Path, *lines: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{line}\n" for line in lines))


def folders(folder: Path, names: tuple[str, ...], count: int = 10) -> None:
    for name in names:
        images(folder / name, [f"{i:02}.jpg" for i in range(count)])


def split_of_folders(root: Path, file: str, base: str, folder_names: tuple[str, ...], names: tuple[str, ...]) -> None:
    rows = [(f"{f}/{i:02}.jpg", label, names[label]) for label, f in enumerate(folder_names) for i in range(10)]
    parts: list[list[Row]] = [[], [], []]
    for i, row in enumerate(rows):
        parts[0 if i % 10 < 5 else 1 if i % 10 < 7 else 2].append(row)
    folders(root / base, folder_names)
    write_split(root / file, *parts)


def caltech101(root: Path) -> None:
    root = root / "caltech-101"
    folders(root / "101_ObjectCategories", ("BACKGROUND_Google", "Faces_easy"), 1)
    split_of_folders(
        root,
        "split_zhou_Caltech101.json",
        "101_ObjectCategories",
        ("Faces", "Leopards", "accordion"),
        ("face", "leopard", "accordion"),
    )


def food101(root: Path) -> None:
    names = ("apple_pie", "sushi")
    split_of_folders(root / "food-101", "split_zhou_Food101.json", "images", names, names)


def dtd(root: Path) -> None:
    names = ("banded", "zigzagged")
    split_of_folders(root / "dtd", "split_zhou_DescribableTextures.json", "images", names, names)


def eurosat(root: Path) -> None:
    split_of_folders(
        root / "eurosat",
        "split_zhou_EuroSAT.json",
        "2750",
        ("AnnualCrop", "Forest", "SeaLake"),
        ("Annual Crop Land", "Forest", "Sea or Lake"),
    )


def oxford_pets(root: Path) -> None:
    root = root / "oxford_pets"
    breeds = ("Abyssinian", "american_bulldog")
    lines = [(f"{breed}_{i}", label) for label, breed in enumerate(breeds) for i in range(10)]
    images(root / "images", [f"{stem}.jpg" for stem, _ in lines])
    for file, keep in (("trainval.txt", range(5)), ("test.txt", range(5, 10))):
        rows = [f"{stem} {label + 1} 1 1" for stem, label in lines if int(stem.rpartition("_")[2]) in keep]
        text(root / "annotations" / file, *rows)
    items = [(f"{stem}.jpg", label, stem.rpartition("_")[0].lower()) for stem, label in lines]
    write_split(root / "split_zhou_OxfordPets.json", items[::3], items[1::3], items[2::3])


def stanford_cars(root: Path) -> None:
    from scipy.io import savemat

    root = root / "stanford_cars"
    names = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([list(names)], dtype=object)})
    for folder, file in (
        ("cars_train", "devkit/cars_train_annos.mat"),
        ("cars_test", "cars_test_annos_withlabels.mat"),
    ):
        images(root / folder, [f"{i:05}.jpg" for i in range(1, 11)])
        rows = [(1 + i % 2, f"{i + 1:05}.jpg") for i in range(10)]
        annotations = np.array([rows], dtype=[("class", object), ("fname", object)])
        savemat(root / file, {"annotations": annotations})
    items = [(f"{d}/{i:05}.jpg", i % 2, f"car {i % 2}") for d in ("cars_train", "cars_test") for i in range(1, 11)]
    write_split(root / "split_zhou_StanfordCars.json", items[:8], items[8:10], items[10:])


def oxford_flowers(root: Path) -> None:
    from scipy.io import savemat

    root = root / "oxford_flowers"
    labels = [2] * 10 + [1] * 10
    images(root / "jpg", [f"image_{i:05}.jpg" for i in range(1, 21)])
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    text(root / "cat_to_name.json", json.dumps({"1": "pink primrose", "2": "canterbury bells"}))
    rows = [(f"image_{i:05}.jpg", label - 1, f"flower {label}") for i, label in enumerate(labels, start=1)]
    write_split(root / "split_zhou_OxfordFlowers.json", rows[::3], rows[1::3], rows[2::3])


def fgvc_aircraft(root: Path) -> None:
    root = root / "fgvc_aircraft"
    names = ("707-320", "Boeing 717")
    text(root / "variants.txt", *names)
    for start, part in enumerate(("train", "val", "test")):
        numbers = [f"{1000 * start + i:07}" for i in range(4)]
        images(root / "images", [f"{number}.jpg" for number in numbers])
        text(root / f"images_variant_{part}.txt", *(f"{n} {names[i % 2]}" for i, n in enumerate(numbers)))


def sun397(root: Path) -> None:
    root = root / "sun397"
    names = ("a/abbey", "a/apartment_building/outdoor")
    for name in names:
        images(root / "SUN397" / name, [f"sun_{i}.jpg" for i in range(10)])
    text(root / "ClassName.txt", *(f"/{name}" for name in names))
    text(root / "Training_01.txt", *(f"/{name}/sun_{i}.jpg" for name in names for i in range(5)))
    text(root / "Testing_01.txt", *(f"/{name}/sun_{i}.jpg" for name in names for i in range(5, 10)))
    shown = ("abbey", "outdoor apartment_building")
    rows = [(f"{name}/sun_{i}.jpg", label, shown[label]) for label, name in enumerate(names) for i in range(10)]
    write_split(root / "split_zhou_SUN397.json", rows[::3], rows[1::3], rows[2::3])


def ucf101(root: Path) -> None:
    root = root / "ucf101"
    actions = ("ApplyEyeMakeup", "YoYo")
    shown = ("Apply_Eye_Makeup", "Yo_Yo")
    for action, name in zip(actions, shown, strict=True):
        images(root / "UCF-101-midframes" / name, [f"v_{action}_g{i:02}.jpg" for i in range(10)])
    lists = root / "ucfTrainTestlist"
    text(lists / "classInd.txt", *(f"{i} {action}" for i, action in enumerate(actions, start=1)))
    train = [f"{a}/v_{a}_g{i:02}.avi {label}" for label, a in enumerate(actions, start=1) for i in range(5)]
    text(lists / "trainlist01.txt", *train)
    text(lists / "testlist01.txt", *(f"{a}/v_{a}_g{i:02}.avi" for a in actions for i in range(5, 10)))
    rows = [
        (f"{name}/v_{action}_g{i:02}.jpg", label, name)
        for label, (action, name) in enumerate(zip(actions, shown, strict=True))
        for i in range(10)
    ]
    write_split(root / "split_zhou_UCF101.json", rows[::3], rows[1::3], rows[2::3])


def class_names(folder: Path) -> None:
    """CoOp's text file, with names that are not CLIP's so that one sees where they come from."""
    text(folder / "classnames.txt", *(f"{number} the {i}th fish" for i, number in enumerate(SYNSETS)))


def imagenet(root: Path) -> None:
    root = root / "imagenet"
    class_names(root)
    for part, count in (("train", 3), ("val", 2)):
        for number in SYNSETS:
            images(root / "images" / part / number, [f"{number}_{i}.JPEG" for i in range(count)])


def imagenet_v2(root: Path) -> None:
    root = root / "imagenetv2"
    class_names(root)
    for i in range(len(SYNSETS)):
        images(root / "imagenetv2-matched-frequency-format-val" / str(i), ["0.jpeg", "1.jpeg"])


def variant(root: Path, folder: str, inner: str, numbers: tuple[str, ...]) -> None:
    class_names(root / folder)
    for number in numbers:
        images(root / folder / inner / number, ["a.jpg", "b.png"])
    text(root / folder / inner / "README.txt", "not a class")


def imagenet_sketch(root: Path) -> None:
    variant(root, "imagenet-sketch", "images", SYNSETS)


def imagenet_a(root: Path) -> None:
    variant(root, "imagenet-adversarial", "imagenet-a", SYNSETS[1:3])


def imagenet_r(root: Path) -> None:
    variant(root, "imagenet-rendition", "imagenet-r", SYNSETS[::2])


LAYOUTS: dict[str, Callable[[Path], None]] = {
    make.__name__: make
    for make in (
        imagenet,
        caltech101,
        oxford_pets,
        stanford_cars,
        oxford_flowers,
        food101,
        fgvc_aircraft,
        sun397,
        dtd,
        eurosat,
        ucf101,
        imagenet_v2,
        imagenet_sketch,
        imagenet_a,
        imagenet_r,
    )
}
SPLIT_FILES = {
    "caltech101": "caltech-101/split_zhou_Caltech101.json",
    "oxford_pets": "oxford_pets/split_zhou_OxfordPets.json",
    "stanford_cars": "stanford_cars/split_zhou_StanfordCars.json",
    "oxford_flowers": "oxford_flowers/split_zhou_OxfordFlowers.json",
    "food101": "food-101/split_zhou_Food101.json",
    "sun397": "sun397/split_zhou_SUN397.json",
    "dtd": "dtd/split_zhou_DescribableTextures.json",
    "eurosat": "eurosat/split_zhou_EuroSAT.json",
    "ucf101": "ucf101/split_zhou_UCF101.json",
}
