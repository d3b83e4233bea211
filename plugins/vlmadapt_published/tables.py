"""Tables of the MMRL paper, read from the CSV files in this folder exactly as printed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from importlib.resources import files
from statistics import mean

from vlmadapt.plugin import Published

PAPER = "MMRL paper"
BACKBONES = frozenset({"ViT-B-16:openai", "ViT-B-16-quickgelu:openai"})
SHOTS = 16
METHODS = {
    "Linear probe CLIP": "linear-probe",
    "CLIP": "clip",
    "CoOp": "coop",
    "CoCoOp": "cocoop",
    "ProDA": "proda",
    "KgCoOp": "kgcoop",
    "MaPLe": "maple",
    "PromptSRC": "promptsrc",
    "ProVP": "provp",
    "MetaPrompt": "metaprompt",
    "TCP": "tcp",
    "MMA": "mma",
    "MMRL": "mmrl",
}
DATA = {
    "ImageNet": "imagenet",
    "Caltech101": "caltech101",
    "OxfordPets": "oxford_pets",
    "StanfordCars": "stanford_cars",
    "Flowers102": "oxford_flowers",
    "Food101": "food101",
    "FGVCAircraft": "fgvc_aircraft",
    "SUN397": "sun397",
    "DTD": "dtd",
    "EuroSAT": "eurosat",
    "UCF101": "ucf101",
}
SHIFTED = {
    "ImageNetV2": "imagenet_v2",
    "ImageNet-Sketch": "imagenet_sketch",
    "ImageNet-A": "imagenet_a",
    "ImageNet-R": "imagenet_r",
}
ROUNDING = 0.015
"""Largest difference, in points, that rounding can explain between a printed mean and the mean of printed numbers."""


def mmrl_paper() -> tuple[Published, ...]:
    """Published results of tables 1 to 3, 10 and 11."""
    return (*_base_to_novel(), *_few_shot(), *_transfer())


def _base_to_novel() -> Iterator[Published]:
    """Table 1; its average row is the mean over data sets, with the harmonic mean of the two averages."""
    printed = rows("table1_base_to_novel")
    for row in printed:
        base, novel = float(row["base"]), float(row["novel"])
        values = {"base": base, "novel": novel, "harmonic_mean": float(row["hm"])}
        expected = {"harmonic_mean": 2 * base * novel / (base + novel)}
        if row["dataset"] == "Average":
            single = [r for r in printed if r["method"] == row["method"] and r["dataset"] != "Average"]
            expected |= {name: mean(float(r[name]) for r in single) for name in ("base", "novel")}
        yield _published("table 1", row["method"], "base-to-novel", row["dataset"], SHOTS, values, expected)


def _few_shot() -> Iterator[Published]:
    """Tables 10 and 11."""
    printed = rows("table10_11_few_shot")
    for row in printed:
        for shots in (1, 2, 4, 8, 16):
            column = f"shots_{shots}"
            expected = {}
            if row["dataset"] == "Average":
                same = [r for r in printed if r["method"] == row["method"] and r["dataset"] != "Average"]
                expected["all"] = mean(float(r[column]) for r in same)
            values = {"all": float(row[column])}
            yield _published("tables 10 and 11", row["method"], "few-shot", row["dataset"], shots, values, expected)


def _transfer() -> Iterator[Published]:
    """Tables 2 and 3: trained on ImageNet, tested on ImageNet and on the target data sets."""
    tables = (
        ("table 2", "table2_cross_dataset", "cross-dataset"),
        ("table 3", "table3_domain_generalization", "domain-generalization"),
    )
    names = {**DATA, **SHIFTED, "Average": "target_average"}
    for number, file, protocol in tables:
        for row in rows(file):
            values = {names[column]: float(value) for column, value in row.items() if column in names}
            targets = [values[name] for column, name in names.items() if column in row and column in DATA][1:]
            expected = {"target_average": mean(targets)} if "target_average" in values else {}
            yield _published(number, row["method"], protocol, "ImageNet", SHOTS, values, expected)


def _published(
    table: str,
    method: str,
    protocol: str,
    data: str,
    shots: int,
    values: dict[str, float],
    expected: dict[str, float],
) -> Published:
    """One published row; a value that contradicts the other printed numbers is kept and the expected value recorded."""
    flaws = {name: round(value, 2) for name, value in expected.items() if abs(values[name] - value) > ROUNDING}
    names = frozenset(DATA.values()) if data == "Average" else frozenset({DATA[data]})
    return Published(f"{PAPER}, {table}", METHODS[method], protocol, names, BACKBONES, shots, values, flaws)


def rows(table: str) -> list[dict[str, str]]:
    """Rows of a CSV file of this folder by column."""
    text = (files(__package__ or "vlmadapt_published") / f"{table}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
