"""Medical data sets of BiomedCoOp and remote-sensing data sets of APPLeNet, read with the splits that these publish.

Medical: HealthX-Lab/BiomedCoOp (Koleilat et al., CVPR 2025) at commit 7ceb5a8, `assets/DATASETS.md`, `datasets/*.py`,
`data/*/split_*.json` and `trainers/prompt_templates.py`. Remote sensing: mainaksingha01/APPLeNet (Jha et al., CVPR
Workshops 2023) at commit 6819a9b, `files/*.py`, `json/*.json` and `yaml/trainers`. Numbers of images are those of the
split files; where these could not be read (OCTMNIST) those of the documentation.
"""

from __future__ import annotations

from errno import ENOENT
from functools import partial
from pathlib import Path

from vlmadapt_benchmarks.benchmark import Benchmark
from vlmadapt_benchmarks.fetch import manual
from vlmadapt_benchmarks.splits import Split

PHOTO = "a photo of a {}."
BIOMEDCOOP, APPLENET = "BiomedCoOp's assets/DATASETS.md", "APPLeNet's README.md"


def _no_split(folder: Path, file: str) -> Split:
    """Refuse to make a split: the published one is part of the data set."""
    raise FileNotFoundError(ENOENT, "is missing", str(folder / file))


def _published(
    name: str, layout: str, folder: str, images: str, split_file: str, how: str, counts: tuple[int, int, int, int]
) -> Benchmark:
    return Benchmark(
        name=name,
        folder=folder,
        template=PHOTO,
        expected=dict(zip(("classes", "train", "val", "test"), counts, strict=True)),
        reader=partial(_no_split, file=split_file),
        split_file=split_file,
        images=(images,),
        downloads=(manual(how, images, split_file),),
        layout=layout,
    )


def _medical(name: str, folder: str, identifier: str, counts: tuple[int, int, int, int]) -> Benchmark:
    where = "TahaKoleilat/BiomedCoOp on the Hugging Face Hub"
    if identifier:
        where = f"https://drive.google.com/file/d/{identifier}/view, or {where}"
    how = f"take the archive from {where}, and unpack it here; the split file is also in HealthX-Lab/BiomedCoOp, data/"
    return _published(name, BIOMEDCOOP, folder, folder, f"split_{folder}.json", how, counts)


def _remote(name: str, folder: str, source: str, counts: tuple[int, int, int, int]) -> Benchmark:
    split_file = f"{name}.json"
    how = f"take the images from {source} and {split_file} from mainaksingha01/APPLeNet, json/"
    return _published(name, APPLENET, folder, "images", split_file, how, counts)


btmri = _medical("btmri", "BTMRI", "1_lJLZRUmczqZqoN-dNqkAzGzmi4ONoU5", (4, 2854, 1141, 1717))
busi = _medical("busi", "BUSI", "1hB5M7wcAUTV9EtiYrijACoQ36R6VmQaa", (3, 389, 155, 236))
chmnist = _medical("chmnist", "CHMNIST", "1tyQiYQmqAGNaY4SCK_8U5vEbbaa1AD-g", (8, 2496, 1000, 1504))
covid_19 = _medical("covid_19", "COVID_19", "1zMLN5q5e_tmH-deSZQiY4Xq0M1EqCrML", (4, 10_582, 4232, 6351))
ctkidney = _medical("ctkidney", "CTKidney", "1PBZ299k--mZL8JU7nhC1Wy8yEmlqmVDh", (4, 6221, 2487, 3738))
dermamnist = _medical("dermamnist", "DermaMNIST", "1Jxd1-DWljunRDZ8fY80dl5zUMefriQXt", (7, 7006, 1003, 2005))
kneexray = _medical("kneexray", "KneeXray", "1DBVraYJmxy2UcQ_nGLYvTB2reITOm453", (5, 5778, 826, 1656))
kvasir = _medical("kvasir", "Kvasir", "", (8, 2000, 800, 1200))
lungcolon = _medical("lungcolon", "LungColon", "1YIu5fqMXgyemisiL1L1HCvES2nVpCtun", (5, 12_500, 5000, 7500))
octmnist = _medical("octmnist", "OCTMNIST", "1mYZNWxbPxnnVvcwHQYybA8gdMzQAoOem", (4, 97_477, 10_832, 1000))
retina = _medical("retina", "RETINA", "18U-Gc22h5QryomNNzY4r4Qfrq52yf5EO", (4, 2108, 841, 1268))

patternnet = _remote(
    "patternnet", "PatternNet", "https://sites.google.com/view/zhouwx/dataset", (38, 14_896, 6384, 9120)
)
rsicd = _remote("rsicd", "RSICD", "https://github.com/201528014227051/RSICD_optimal", (30, 4887, 2112, 3001))
resisc45 = _remote(
    "resisc45", "RESISC45", "https://www.tensorflow.org/datasets/catalog/resisc45", (45, 15_435, 6615, 9450)
)
