"""Picture of what each plan computes: tokens that go through each block in a training step.

    python benchmarks/plan_picture.py --method mmrl --classes 100 --batch 4 --out docs/images/plan.png

Counted while steps run, on towers with the depth and sequence lengths of ViT-B/16 but small width.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.pyplot as plt
import open_clip
import torch

from vlmadapt import Backbone
from vlmadapt.core import run_tower
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Task, total
from vlmadapt.core.packing import Packing
from vlmadapt.core.sequences import Sequences

GRAPH, PLAIN, KEPT, SUPPLIED = "with a graph", "without a graph", "kept from the first step", "keys and values only"
COLOURS = {GRAPH: "#b3452c", PLAIN: "#e0a387", SUPPLIED: "#cfd6dd", KEPT: "#7f93a8"}
Counts = Counter[tuple[str, int, str]]
"""Tokens by tower, block and kind."""


def thin_backbone() -> Backbone:
    vision = {"image_size": 224, "layers": 12, "width": 64, "patch_size": 16, "head_width": 64}
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 12}
    model = open_clip.CLIP(embed_dim=32, vision_cfg=vision, text_cfg=text)
    return Backbone("ViT-B/16, thin", model, open_clip.get_tokenizer("ViT-B-16"))


@contextmanager
def counting(backbone: Backbone) -> Iterator[Counts]:
    """Tokens that go through each block during a `with` block."""
    counts: Counts = Counter()
    positions = {id(b): (side, i) for side, tower in (("text", backbone.text), ("image", backbone.image))
                 for i, b in enumerate(tower.blocks)}  # fmt: skip
    in_full, for_reads = run_tower.run_block, run_tower.run_last_block

    def tokens(x: Sequences, packing: Packing) -> int:
        return x.suffix.shape[0] * sum(bucket.size for bucket in packing.buckets) + x.prefix.shape[0] * x.map.prefix_len

    def run_block(block: Any, x: Sequences, packing: Packing, adapters: Any) -> Sequences:
        out = in_full(block, x, packing, adapters)
        counts[*positions[id(block)], GRAPH if out.suffix.requires_grad else PLAIN] += tokens(x, packing)
        return out

    def run_last_block(block: Any, x: Sequences, packing: Packing, adapters: Any, reads: Any) -> Any:
        out = for_reads(block, x, packing, adapters, reads)
        read = sum(t.shape[0] * t.shape[1] * t.shape[2] for t in out.values())
        graph = any(t.requires_grad for t in out.values())
        counts[*positions[id(block)], GRAPH if graph else PLAIN] += read
        counts[*positions[id(block)], SUPPLIED] += tokens(x, packing) - read
        return out

    with patch.object(run_tower, "run_block", run_block), patch.object(run_tower, "run_last_block", run_last_block):
        yield counts


def count(method: str, classes: int, batch: int, plan: str) -> Counts:
    """Tokens of the second step; those that only the first step computed count as `KEPT`."""
    torch.manual_seed(0)
    backbone, names, templates = thin_backbone(), tuple(open_clip.IMAGENET_CLASSNAMES[:classes]), ("a photo of a {}.",)
    built = build_method(method, backbone, Task(names, templates))
    classifier = Classifier(backbone, built, templates, plan)
    steps = []
    for _ in range(2):
        with counting(backbone) as counts:
            x = classifier.forward(torch.randn(batch, 3, 224, 224), names, torch.arange(batch) % classes)
            total(built.losses(x)).backward()
        steps.append(counts)
    first, later = steps
    for (side, layer, kind), n in (first - later).items():
        later[side, layer, KEPT] += n if kind in (GRAPH, PLAIN) else 0
    return later


def draw(found: dict[str, Counts], title: str, path: Path) -> None:
    figure, panels = plt.subplots(2, len(found), figsize=(9, 5.4), sharex="row", sharey=True)
    for column, (plan, counts) in enumerate(found.items()):
        for row, side in enumerate(("text", "image")):
            panel, left = panels[row][column], [0] * 12
            for kind, colour in COLOURS.items():
                widths = [counts[side, layer, kind] for layer in range(12)]
                panel.barh(range(1, 13), widths, left=left, color=colour, label=kind, height=0.8)
                left = [a + b for a, b in zip(left, widths, strict=True)]
            panel.set(title=f"{plan}: {side} tower", yticks=range(1, 13))
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_xlabel("tokens in a training step")
        panels[0][0].set_ylabel("block")
        panels[1][0].set_ylabel("block")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="lower center", ncols=4, frameon=False)
    figure.suptitle(title)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="mmrl")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path("docs/images/plan.png"))
    given = parser.parse_args()
    found = {plan: count(given.method, given.classes, given.batch, plan) for plan in ("reference", "planned")}
    draw(found, f"{given.method}, {given.classes} classes, {given.batch} images", given.out)


if __name__ == "__main__":
    main()
