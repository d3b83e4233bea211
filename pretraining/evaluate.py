"""Step 7 of the recipe: zero-shot accuracies of an exported backbone, as in the model card.

Reads  WORK/pictures.* (the pretraining artists) and, with --openmoji, the data set through its plugin.
Choices are made on the former only; --openmoji is for the final report. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_data import classes_of, load, normalise
from numpy.typing import NDArray
from sources import VALIDATION_SET
from torch import Tensor
from torch.nn import functional as F

PLUGIN = Path(__file__).parent.parent / "plugins" / "vlmadapt_tiny"
TEMPLATES = ("{}", "a {}.", "a picture of a {}.", "a drawing of a {}.", "an icon of a {}.", "a {} emoji.")


def load_exported(folder: Path) -> tuple[Any, Any, Any]:
    """Return the model, its preprocessing and its tokenizer, loaded with open_clip's public functions."""
    import open_clip
    from open_clip.tokenizer import SimpleTokenizer

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    vocabulary = folder / "bpe_simple_vocab_3k.txt.gz"
    return model.eval(), preprocess, SimpleTokenizer(bpe_path=str(vocabulary), context_length=32)


@torch.inference_mode()
def class_vectors(model: Any, tokenize: Any, classes: list[str], template: str) -> Tensor:
    """Return unit text features (classes, 128) for one template."""
    return F.normalize(model.encode_text(tokenize([template.format(c) for c in classes])), dim=-1)


@torch.inference_mode()
def image_vectors(model: Any, pixels: Tensor) -> Tensor:
    """Return unit image features (N, 128) of pixels (N, 3, 48, 48)."""
    return torch.cat([F.normalize(model.encode_image(x), dim=-1) for x in torch.split(pixels, 128)])


def percent(correct: NDArray[np.bool_]) -> float:
    """Return the share of True in per cent, with one decimal."""
    return round(100 * float(correct.mean()), 1)


def accuracy(images: Tensor, label: np.ndarray, words: Tensor, allowed: np.ndarray | None = None) -> float:
    """Return the accuracy in per cent; with `allowed`, over these classes and their pictures only."""
    score = (images @ words.T).numpy()
    if allowed is not None:
        kept = np.isin(label, allowed)
        return percent(allowed[score[kept][:, allowed].argmax(1)] == label[kept])
    return percent(score.argmax(1) == label)


def fitted_scale(images: Tensor, label: np.ndarray, words: Tensor) -> float:
    """Return the logit scale that minimises the cross entropy, from a grid of 4 to 59.5 in steps of 0.5."""
    scales = np.arange(4, 60, 0.5)
    similarity, target = images @ words.T, torch.from_numpy(label)
    return float(scales[int(np.argmin([F.cross_entropy(s * similarity, target).item() for s in scales]))])


def validation_report(work: Path, model: Any, tokenize: Any) -> dict[str, Any]:
    """Return accuracies, over openmoji's class names, on the validation artist and on held-out concepts."""
    pictures = load(work, np.load(work / "targets.npz")["codes"].tolist())
    classes, label = classes_of(pictures)
    views = {"plain": 0, "contours": 1, "bare contours": 2}
    rows = pictures.validation[label[pictures.validation] >= 0]
    vectors = {v: image_vectors(model, normalise(pictures.pixels[rows, i])) for v, i in views.items()}
    words = {t: class_vectors(model, tokenize, classes, t) for t in TEMPLATES}
    default = words["a picture of a {}."]
    report: dict[str, Any] = {
        "validation artist": next(iter(VALIDATION_SET)),
        "pictures": len(rows),
        "by view": {v: accuracy(x, label[rows], default) for v, x in vectors.items()},
        "by template": {t: accuracy(vectors["plain"], label[rows], w) for t, w in words.items()},
        "logit scale": fitted_scale(vectors["plain"], label[rows], default),
    }
    held_out = pictures.unseen[label[pictures.unseen] >= 0]
    by_set = {}
    for name in sorted({pictures.records[i]["set"] for i in held_out}):
        subset = np.array([i for i in held_out if pictures.records[i]["set"] == name])
        vector = image_vectors(model, normalise(pictures.pixels[subset, 0]))
        by_set[name] = [len(subset), accuracy(vector, label[subset], default)]
    report["held-out concepts by artist (pictures, accuracy)"] = by_set
    return report


def openmoji_report(model: Any, preprocess: Any, tokenize: Any) -> dict[str, Any]:
    """Return zero-shot accuracies on the test split of openmoji, in colour and as outlines."""
    from PIL import Image

    from vlmadapt_openmoji import openmoji, openmoji_outline

    report: dict[str, Any] = {}
    for dataset in (openmoji(), openmoji_outline()):
        pixels = torch.stack([preprocess(Image.open(e.path).convert("RGB")) for e in dataset.test])
        label = np.array([e.label for e in dataset.test])
        images = image_vectors(model, pixels)
        words = class_vectors(model, tokenize, list(dataset.classes), dataset.templates[0])
        half = (len(dataset.classes) + 1) // 2
        guess = (images @ words.T).argmax(1).numpy()
        report[dataset.name] = {
            "pictures": len(label),
            "all classes": accuracy(images, label, words),
            "base half alone": accuracy(images, label, words, np.arange(half)),
            "novel half alone": accuracy(images, label, words, np.arange(half, len(dataset.classes))),
            "by class": {
                c: round(100 * float((guess[label == i] == i).mean()), 1) for i, c in enumerate(dataset.classes)
            },
        }
    return report


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=PLUGIN)
    parser.add_argument("--openmoji", action="store_true")
    parser.add_argument("--out", type=Path, help="file to write the report to as well")
    args = parser.parse_args()
    model, preprocess, tokenize = load_exported(args.folder)
    report = validation_report(args.work, model, tokenize)
    if args.openmoji:
        report |= openmoji_report(model, preprocess, tokenize)
    text = json.dumps(report, indent=1, default=float)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
