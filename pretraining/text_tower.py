"""Step 3 of the recipe: train the text tower to reproduce each phrase's target vector.

Reads  WORK/targets.npz.   Writes WORK/text.pt (resumed if it exists and is unfinished).
A tower of 4 blocks is trained first, then grown to 12 blocks and trained further.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import build_clip, grow, make_optimisers, save, set_rate, tokenizer
from torch import Tensor
from torch.nn import functional as F

TEMPLATES = ("a picture of a {}.", "a picture of a {}.", "a drawing of a {}.", "an icon of a {}.", "a {} emoji.")
STAGES = ((4, 0.02, 3e-3), (12, 0.012, 1.5e-3))  # blocks, Muon's rate, AdamW's rate


def encode_text(clip: Any, tokens: Tensor) -> Tensor:
    """Return CLIP.encode_text of tokens (B, L) as (B, 128), computed only up to the longest text of the batch."""
    length = int(tokens.argmax(dim=-1).max()) + 1  # the end token has the largest id
    tokens = tokens[:, :length]
    x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
    x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask[:length, :length]))
    features: Tensor = x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ clip.text_projection
    return features


def batches(tokens: Tensor, size: int, rng: np.random.Generator, weight: np.ndarray) -> list[np.ndarray]:
    """Return the batches of one epoch as indices; texts of similar length share a batch, `weight` repeats texts."""
    rows = np.repeat(np.arange(len(tokens)), weight)
    length = tokens.argmax(dim=-1).numpy()[rows] + rng.uniform(0, 2, len(rows))
    rows = rows[np.argsort(length)]
    chunks = np.array_split(rows, max(1, len(rows) // size))
    rng.shuffle(chunks)
    return chunks


def make_table(data: Any, tokenize: Any) -> tuple[Tensor, Tensor, np.ndarray]:
    """Return tokens (M, 32), the target index of each text, and its repetitions per epoch.

    Every phrase occurs bare; emoji words also in every template, one WordNet phrase in four in one template.
    """
    texts, target, weight = [], [], []
    rng = np.random.default_rng(0)
    for i, (text, named) in enumerate(zip(data["texts"].tolist(), data["named"], strict=True)):
        forms = [text]
        if named:
            forms += [t.format(text) for t in TEMPLATES]
        elif not text.startswith(("a ", "an ", "the ")) and rng.random() < 0.25:
            forms.append(TEMPLATES[rng.integers(len(TEMPLATES))].format(text))
        texts += forms
        target += [i] * len(forms)
        weight += [2 if named else 1] * len(forms)
    return tokenize(texts), torch.tensor(target), np.array(weight)


def loss_of(predicted: Tensor, wanted: Tensor) -> Tensor:
    """Return 4 (1 - cos) + half the cross entropy of identifying the right target among those of the batch."""
    predicted = F.normalize(predicted, dim=-1)
    same = (wanted @ wanted.T) > 0.9999  # the same meaning in another form is not a negative
    logits = (20 * predicted @ wanted.T).masked_fill(same & ~torch.eye(len(wanted), dtype=torch.bool), -1e4)
    cross = F.cross_entropy(logits, torch.arange(len(wanted)))
    return 4 * (1 - (predicted * wanted).sum(-1)).mean() + 0.5 * cross


def text_weights(clip: Any) -> dict[str, Tensor]:
    """Return all weights except those of the image tower."""
    return {k: v for k, v in clip.state_dict().items() if not k.startswith("visual.")}


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs=2, default=(1100, 250), help="steps with 4 and with 12 blocks")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--out", default="text.pt")
    args = parser.parse_args()
    data = np.load(args.work / "targets.npz")
    vectors = torch.from_numpy(data["vectors"])
    tokens, target, weight = make_table(data, tokenizer(args.work))
    print(f"{len(tokens)} texts of {len(vectors)} meanings", flush=True)

    path = args.work / args.out
    state: dict[str, Any] = torch.load(path) if path.exists() else {"stage": 0, "step": 0}
    torch.manual_seed(0)
    clip = build_clip(state.get("blocks", STAGES[0][0]))
    if "model" in state:
        clip.load_state_dict(state["model"], strict=False)  # without the image tower
    for stage, (layers, muon_rate, adam_rate) in enumerate(STAGES):
        if len(clip.transformer.resblocks) < layers:
            clip.transformer.resblocks = grow(clip.transformer.resblocks, layers)
        if stage < state["stage"]:
            continue
        rest = [
            clip.token_embedding.weight,
            clip.positional_embedding,
            clip.text_projection,
            *clip.ln_final.parameters(),
        ]
        optimisers = make_optimisers(clip.transformer.resblocks, rest, muon_rate, adam_rate)
        first = state["step"] if stage == state["stage"] else 0
        if first:
            for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(saved)
        rng = np.random.default_rng([stage, first])
        queue: list[np.ndarray] = []
        start, seen = time.time(), []
        for step in range(first, args.steps[stage]):
            if not queue:
                queue = batches(tokens, args.batch, rng, weight)
            rows = queue.pop()
            set_rate(optimisers, step, args.steps[stage])
            clip.zero_grad()
            loss = loss_of(encode_text(clip, tokens[rows]), vectors[target[rows]])
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(rest, 1.0)
            for optimiser in optimisers:
                optimiser.step()
            seen.append(loss.item())
            if (step + 1) % 50 == 0:
                print(
                    f"stage {stage} step {step + 1} loss {np.mean(seen[-50:]):.4f} {time.time() - start:.0f} s",
                    flush=True,
                )
            if (step + 1) % 200 == 0:
                where = {"stage": stage, "step": step + 1, "blocks": layers, "model": text_weights(clip)}
                save(path, where | {"optimisers": [o.state_dict() for o in optimisers]})
        state = {"stage": stage + 1, "step": 0, "blocks": layers, "model": text_weights(clip)}
        save(path, state)


if __name__ == "__main__":
    main()
