"""Run folders as `fit` leaves them, written in milliseconds, with numbers that are made up."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vlmadapt.compare.record import Comparison, Entry
from vlmadapt.evaluation.accuracy import harmonic_mean

CLASSES = ("cat", "dog", "fox & hound", "<owl>")
IMAGES = 40


def run(folder: Path, method: str, data: str, shots: int, seed: int, skill: float, **changes: Any) -> Path:
    """A finished base-to-novel run that answers a part `skill` of its test images rightly."""
    drawn = random.Random(f"{method}{data}{shots}{seed}")
    folder.mkdir(parents=True)
    settings = {"method": {"name": method}, "train": {}, "data": data, "backbone": "tiny", "protocol": "base-to-novel"}
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "shots": shots, "seed": seed}))
    groups = [("base", "seen", CLASSES[:2]), ("novel", "unseen", CLASSES[2:])]
    test: list[dict[str, Any]] = [
        {
            "name": name,
            "role": role,
            "classes": list(names),
            "examples": [[f"{name}/{i}.png", i % 2] for i in range(40)],
        }
        for name, role, names in groups
    ]
    answers: list[dict[str, Any]] = [{"name": g["name"], "chosen": [], "confidence": []} for g in test]
    for group, answer in zip(test, answers, strict=True):
        for _, label in group["examples"]:
            answer["chosen"].append(label if drawn.random() < skill else 1 - label)
            answer["confidence"].append(round(drawn.uniform(0.5, 1), 4))
    accuracy = {g["name"]: _percent(g, a) for g, a in zip(test, answers, strict=True)}
    accuracy["harmonic_mean"] = harmonic_mean(accuracy["base"], accuracy["novel"])
    trained = method != "clip"
    result = {
        "method": method,
        "data": data,
        "data_sha256": f"{seed:012}" + 52 * "0",
        "accuracy": accuracy,
        "trainable_parameters": 2000 * len(method) if trained else 0,
        "steps": 10 if trained else 0,
        "seconds_per_step": 0.01 * len(method) if trained else None,
        "test_images_per_second": 100.0,
        "peak_memory_bytes": 2**29,
        "data_notes": [],
    }
    versions = dict.fromkeys(("vlmadapt", "torch", "open_clip_torch"), "1.0")
    where = {"python": "3.12", "gpu": None, "threads": 1, "libraries": versions}
    epochs = [{"epoch": e, "loss": 2 / e, "train_accuracy": 1 - 0.5 / e} for e in (1, 2, 3)] if trained else []
    files: dict[str, Any] = {"data": {"sha256": "0", "classes": list(CLASSES[:2]), "test": test}, "answers": answers}
    files |= {"result": {**result, **changes}, "environment": where}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    if epochs:
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, epochs)))
    return folder


def comparison(
    folder: Path,
    methods: Sequence[str] = ("clip", "coop", "mmrl++"),
    data: Sequence[str] = ("alpha",),
    seeds: Sequence[int] = (1, 2, 3),
    shots: Sequence[int] = (16,),
    **changes: Any,
) -> Comparison:
    """A finished comparison in which every method is a little better than the one before it, and more shots help."""
    entries = []
    for seed in seeds:
        for d, name in enumerate(data):
            for k in shots:
                for i, method in enumerate(methods):
                    skill = 0.6 + 0.25 * i / max(len(methods) - 1, 1) + 0.02 * d + 0.002 * k
                    where = run(folder / "runs" / f"{method}-{name}-{k}-{seed}", method, name, k, seed, skill)
                    entries.append(Entry(method, name, k, seed, where, (f"{method}/uniform.yaml",)))
    kind = {"protocol": "base-to-novel", "backbone": "tiny", "recipe": "uniform", "settings": {"train": {}}}
    made = Comparison(**{**kind, "entries": tuple(entries), **changes})
    made.write(folder)
    return made


def _percent(group: dict[str, Any], answers: dict[str, Any]) -> float:
    pairs = zip(group["examples"], answers["chosen"], strict=True)
    return 100 * sum(label == chosen for (_, label), chosen in pairs) / len(group["examples"])
