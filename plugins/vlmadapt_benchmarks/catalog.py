"""The data sets: folders, published counts and templates, and the source of each part.

SHA-256 checksums are those that TensorFlow Datasets publishes for the same addresses.
"""

from __future__ import annotations

from vlmadapt_benchmarks.benchmark import Benchmark
from vlmadapt_benchmarks.fetch import archive, drive, drive_archive, manual, torchvision
from vlmadapt_benchmarks.readers import (
    CALTECH_IGNORED,
    CALTECH_NAMES,
    EUROSAT_NAMES,
    folders_in,
    read_aircraft,
    read_cars,
    read_flowers,
    read_imagenet,
    read_imagenet_v2,
    read_pets,
    read_sun,
    read_ucf,
    variant_in,
)

PHOTO = "a photo of a {}."
OTHERS = (
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)
VARIANTS = ("imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r")


def _counts(classes: int, train: int, val: int, test: int) -> dict[str, int]:
    return {"classes": classes, "train": train, "val": val, "test": test}


imagenet = Benchmark(
    name="imagenet",
    folder="imagenet",
    template=PHOTO,
    expected=_counts(1000, 1_281_167, 0, 50_000),
    reader=read_imagenet,
    downloads=(
        manual(
            "ask for access at https://image-net.org, then unpack training and validation images into these folders, "
            "each with one folder per class (n01440764, ...)",
            "images/train",
            "images/val",
        ),
    ),
    targets={"cross-dataset": OTHERS, "domain-generalization": VARIANTS},
)

caltech101 = Benchmark(
    name="caltech101",
    folder="caltech-101",
    template=PHOTO,
    expected=_counts(100, 4128, 1649, 2465),
    reader=folders_in("101_ObjectCategories", ignored=CALTECH_IGNORED, names=CALTECH_NAMES),
    split_file="split_zhou_Caltech101.json",
    images=("101_ObjectCategories",),
    downloads=(
        torchvision("Caltech101", "caltech101", "101_ObjectCategories"),
        drive("1hyarUivQE36mY6jSomru6Fjd-JzwcCzN", "split_zhou_Caltech101.json"),
    ),
)

oxford_pets = Benchmark(
    name="oxford_pets",
    folder="oxford_pets",
    template="a photo of a {}, a type of pet.",
    expected=_counts(37, 2944, 736, 3669),
    reader=read_pets,
    split_file="split_zhou_OxfordPets.json",
    images=("images",),
    downloads=(
        torchvision("OxfordIIITPet", "oxford-iiit-pet", "images", "annotations"),
        drive("1501r8Ber4nNKvmlFVQZ8SeUHTcdTTEqs", "split_zhou_OxfordPets.json"),
    ),
)

stanford_cars = Benchmark(
    name="stanford_cars",
    folder="stanford_cars",
    template=PHOTO,
    expected=_counts(196, 6509, 1635, 8041),
    reader=read_cars,
    split_file="split_zhou_StanfordCars.json",
    images=("cars_train", "cars_test"),
    downloads=(
        manual(
            "its own address is dead: take cars_train.tgz and cars_test.tgz of the original 'Cars' data set from a "
            "mirror and unpack them here",
            "cars_train",
            "cars_test",
        ),
        drive("1ObCFbaAgVu0I-k_Au-gIUcefirdAuizT", "split_zhou_StanfordCars.json"),
    ),
)

oxford_flowers = Benchmark(
    name="oxford_flowers",
    folder="oxford_flowers",
    template="a photo of a {}, a type of flower.",
    expected=_counts(102, 4093, 1633, 2463),
    reader=read_flowers,
    split_file="split_zhou_OxfordFlowers.json",
    images=("jpg",),
    downloads=(
        torchvision("Flowers102", "flowers-102", "jpg", "imagelabels.mat"),
        drive("1Pp0sRXzZFZq15zVOzKjKBu4A9i01nozT", "split_zhou_OxfordFlowers.json"),
    ),
)

food101 = Benchmark(
    name="food101",
    folder="food-101",
    template="a photo of {}, a type of food.",
    expected=_counts(101, 50_500, 20_200, 30_300),
    reader=folders_in("images"),
    split_file="split_zhou_Food101.json",
    images=("images",),
    downloads=(
        torchvision("Food101", "food-101", "images"),
        drive("1QK0tGi096I0Ba6kggatX1ee6dJFIcEJl", "split_zhou_Food101.json"),
    ),
)

fgvc_aircraft = Benchmark(
    name="fgvc_aircraft",
    folder="fgvc_aircraft",
    template="a photo of a {}, a type of aircraft.",
    expected=_counts(100, 3334, 3333, 3333),
    reader=read_aircraft,
    downloads=(
        archive(
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            "fgvc-aircraft-2013b/data",
            "images",
            "variants.txt",
            "images_variant_train.txt",
            "images_variant_val.txt",
            "images_variant_test.txt",
        ),
    ),
)

sun397 = Benchmark(
    name="sun397",
    folder="sun397",
    template=PHOTO,
    expected=_counts(397, 15_880, 3970, 19_850),
    reader=read_sun,
    split_file="split_zhou_SUN397.json",
    images=("SUN397",),
    downloads=(
        torchvision("SUN397", "", "SUN397"),
        drive("1y2RD81BYuiyvebdN-JymPfyWYcd8_MUq", "split_zhou_SUN397.json"),
    ),
)

dtd = Benchmark(
    name="dtd",
    folder="dtd",
    template="{} texture.",
    expected=_counts(47, 2820, 1128, 1692),
    reader=folders_in("images"),
    split_file="split_zhou_DescribableTextures.json",
    images=("images",),
    downloads=(
        torchvision("DTD", "dtd/dtd", "images"),
        drive("1u3_QfB467jqHgNXC00UIzbLZRQCg2S7x", "split_zhou_DescribableTextures.json"),
    ),
)

eurosat = Benchmark(
    name="eurosat",
    folder="eurosat",
    template="a centered satellite photo of {}.",
    expected=_counts(10, 13_500, 5400, 8100),
    reader=folders_in("2750", names=EUROSAT_NAMES),
    split_file="split_zhou_EuroSAT.json",
    images=("2750",),
    downloads=(
        torchvision("EuroSAT", "eurosat", "2750"),
        drive("1Ip7yaCWFi0eaOFUGga0lUdVi_DDQth1o", "split_zhou_EuroSAT.json"),
    ),
)

ucf101 = Benchmark(
    name="ucf101",
    folder="ucf101",
    template="a photo of a person doing {}.",
    expected=_counts(101, 7639, 1898, 3783),
    reader=read_ucf,
    split_file="split_zhou_UCF101.json",
    images=("UCF-101-midframes",),
    downloads=(
        drive_archive("10Jqome3vtUA2keJkNanAiFpgbyC9Hc2O", {"UCF-101-midframes": "UCF-101-midframes"}),
        drive("1I0S0q91hJfsV9Gf4xDIjgDq4AqBNJb1y", "split_zhou_UCF101.json"),
    ),
)

imagenet_v2 = Benchmark(
    name="imagenet_v2",
    folder="imagenetv2",
    template=PHOTO,
    expected=_counts(1000, 0, 0, 10_000),
    reader=read_imagenet_v2,
    downloads=(
        archive(
            "https://huggingface.co/datasets/vaishaal/ImageNetV2/resolve/main/imagenetv2-matched-frequency.tar.gz",
            "",
            "imagenetv2-matched-frequency-format-val",
            sha256="f0c37fdf925916b19ea1323cd9a2208cdb6959ba2c32eef2a7fc393835c9ca7c",
        ),
    ),
)

imagenet_sketch = Benchmark(
    name="imagenet_sketch",
    folder="imagenet-sketch",
    template=PHOTO,
    expected=_counts(1000, 0, 0, 50_889),
    reader=variant_in("images"),
    # The archive's folder has another name in CoOp's layout.
    downloads=(drive_archive("1Mj0i5HBthqH1p_yeXzsg22gZduvgoNeA", {"images": "sketch"}),),
)

imagenet_a = Benchmark(
    name="imagenet_a",
    folder="imagenet-adversarial",
    template=PHOTO,
    expected=_counts(200, 0, 0, 7500),
    reader=variant_in("imagenet-a"),
    downloads=(
        archive(
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-a.tar",
            "",
            "imagenet-a",
            sha256="3bb3632277e6ba6392ea64c02ddbf4dd2266c9caffd6bc09c9656d28f012589e",
        ),
    ),
)

imagenet_r = Benchmark(
    name="imagenet_r",
    folder="imagenet-rendition",
    template=PHOTO,
    expected=_counts(200, 0, 0, 30_000),
    reader=variant_in("imagenet-r"),
    downloads=(
        archive(
            "https://people.eecs.berkeley.edu/~hendrycks/imagenet-r.tar",
            "",
            "imagenet-r",
            sha256="18c6bf493b39a0d975d48e587437f562caab9c52ae6327dcfa9dd8eb54aa1b52",
        ),
    ),
)
