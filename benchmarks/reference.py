"""Whether the reference plan is a fair one: the towers run by it and by open_clip's own forward, side by side.

    python benchmarks/reference.py --classes 100 --batch 4

Both push the same embedded rows, 77 tokens a class and 197 an image, through all 12 blocks of ViT-B/16 and gradients
back to the rows. Published code does so too, with the same modules as open_clip.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from vlmadapt.core.layout import lay_out

from vlmadapt import Backbone
from vlmadapt.core.backbone import ImageTower, TextTower
from vlmadapt.core.block import run_block
from vlmadapt.core.sequences import Rows

ForwardPass = Callable[[Tensor], Tensor]


def by_reference(tower: TextTower | ImageTower, end: Tensor | None) -> ForwardPass:
    """All blocks on rows (N, T, width), as the engine runs them with every rule off."""

    def forward(tokens: Tensor) -> Tensor:
        rows = Rows.of(tokens[None] if tower.causal else tokens[:, None], end, {})
        layout = lay_out(rows, tower.causal, pack=False)
        for block in tower.blocks:
            rows = run_block(block, rows, layout, ())
        return rows.own.reshape(tokens.shape)

    return forward


def step(forward: ForwardPass, tokens: Tensor) -> tuple[float, Tensor]:
    """Seconds of a forward and a backward pass, and the gradient (N, T, width)."""
    tokens = tokens.clone().requires_grad_()
    began = time.perf_counter()
    out = forward(tokens)
    (out * torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    assert tokens.grad is not None
    return time.perf_counter() - began, tokens.grad


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16", load_weights=False)
    backbone = Backbone("ViT-B-16 with random weights", model, open_clip.get_tokenizer("ViT-B-16"))
    text, image = backbone.text, backbone.image
    ids = text.tokenize([f"a photo of a {name}." for name in open_clip.IMAGENET_CLASSNAMES[: given.classes]])
    works = {
        f"text, {given.classes} rows": (
            text.embed(ids),
            by_reference(text, text.end(ids)),
            lambda tokens: model.transformer(tokens, attn_mask=model.attn_mask),
        ),
        f"image, {given.batch} rows": (
            image.embed(torch.randn(given.batch, 3, 224, 224)),
            by_reference(image, None),
            model.visual.transformer,
        ),
    }
    table = Table("work", "open_clip, s", "reference, s", "open_clip / reference", "largest difference of gradients")
    for name, (tokens, ours, theirs) in works.items():
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(given.rounds):
            (seconds, gradient), (other, expected) = step(ours, tokens), step(theirs, tokens)
            times[0].append(other)
            times[1].append(seconds)
        difference = float((gradient - expected).abs().max() / expected.abs().max())
        a, b = map(median, times)
        table.add_row(name, f"{a:.2f}", f"{b:.2f}", f"{a / b:.2f}", f"{difference:.0e}")
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
