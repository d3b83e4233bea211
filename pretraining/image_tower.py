"""Step 5 of the recipe: train the image tower to match the frozen text features of each picture.

Reads  WORK/pictures.*, WORK/targets.npz, WORK/phrases.json and, for the deep stage, WORK/text.pt.
Writes WORK/NAME.pt (resumed if it exists and is unfinished) and prints validation accuracies during training.

Stage "shallow": 4 blocks, emoji only, against the target vectors. Stage "deep": grown to 12 blocks, with clip art,
against the trained text tower's features of group names and clip-art captions.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import build_clip, grow, make_optimisers, save, set_rate, tokenizer
from image_data import Pictures, classes_of, draw_batch, load, normalise, sampling
from text_tower import encode_text
from torch import Tensor, nn
from torch.nn import functional as F

TEMPLATE = "a picture of a {}."
# Pictures with one of these words in their name change meaning when mirrored.
DIRECTED = ("left", "right", "clockwise", "button", "arrow", "flag", "letter", "clock", "sign")


class TextTargets:
    """Text features that pictures are trained to match.

    Attributes:
        codes: code point of each concept.
        subgroups: Unicode subgroup of each concept.
        groups: group captions.
        concept: (concepts, 128) unit target vectors of the concepts.
        group: (groups, 128) unit features of the group captions.
        carries: (concepts, groups) whether a concept carries a group caption.
        caption: (N, 128) unit features of clip-art captions; zero for emoji, and for all if there is no text tower.
    """

    def __init__(self, work: Path, pictures: Pictures, data: Any, text: Any) -> None:
        phrases = json.loads((work / "phrases.json").read_text())
        subgroup = {c["code"]: c["subgroup"] for c in phrases["concepts"]}
        self.codes: list[str] = data["codes"].tolist()
        self.subgroups = [subgroup[c] for c in self.codes]
        self.groups = sorted({g for captions in phrases["groups"].values() for g in captions})
        self._rows = {t: i for i, t in enumerate(data["texts"].tolist())}
        self._vectors, self._text, self._tokenize = torch.from_numpy(data["vectors"]), text, tokenizer(work)
        self.concept = torch.from_numpy(data["concepts"])
        self.group = self.encode(self.groups)
        self.carries = torch.tensor([[g in phrases["groups"][s] for g in self.groups] for s in self.subgroups])
        self.caption = torch.zeros(len(pictures.records), self.concept.shape[1])
        if text is not None:
            rows = [i for i, c in enumerate(pictures.concept.tolist()) if c < 0]
            self.caption[rows] = self.encode([pictures.records[i]["caption"] for i in rows])

    def encode(self, names: list[str]) -> Tensor:
        """Return (N, 128) for names: features of the text tower if there is one, else the target vectors."""
        if self._text is None:
            return torch.stack([self._vectors[self._rows[n]] if n in self._rows else torch.zeros(128) for n in names])
        with torch.inference_mode():
            tokens = self._tokenize([TEMPLATE.format(n) for n in names])
            features = [F.normalize(encode_text(self._text, t), dim=-1) for t in torch.split(tokens, 256)]
        return torch.cat(features).clone()


def loss_of(image: Tensor, rows: np.ndarray, pictures: Pictures, targets: TextTargets, scale: Tensor) -> Tensor:
    """Return (1 - cos) + cross entropy over all concepts + cross entropy over all group captions."""
    concept = pictures.concept[rows]
    known = concept >= 0
    wanted = torch.where(known[:, None], targets.concept[concept], targets.caption[rows])
    image = F.normalize(image, dim=-1)
    positive = (image * wanted).sum(-1, keepdim=True)
    # Concepts with nearly the same meaning (a man running, a woman running) are not negatives of each other.
    negatives = (image @ targets.concept.T).masked_fill(wanted @ targets.concept.T > 0.9, -1e4)
    concept_logits = scale[0].exp() * torch.cat([positive, negatives], dim=1)
    loss = (1 - positive).mean() + F.cross_entropy(concept_logits, torch.zeros(len(rows), dtype=torch.long))
    if known.any():
        group_logits = scale[1].exp() * image[known] @ targets.group.T
        carried = targets.carries[concept[known]]
        log_p = group_logits - torch.logsumexp(group_logits, dim=1, keepdim=True)
        loss = loss - torch.logsumexp(log_p.masked_fill(~carried, -1e4), dim=1).mean()
    return loss


@torch.inference_mode()
def validate(visual: Any, pictures: Pictures, targets: TextTargets) -> str:
    """Return zero-shot accuracies over openmoji's class names, for the validation artist and for held-out concepts."""
    names, label = classes_of(pictures)
    prompts = targets.encode(names)
    visual.eval()
    parts = []
    for title, split in (("validation artist", pictures.validation), ("held-out concepts", pictures.unseen)):
        rows = split[label[split] >= 0]
        for view in (0, 1, 2):
            image = torch.cat([visual(normalise(pictures.pixels[r, view])) for r in np.array_split(rows, 8)])
            correct = (image @ prompts.T).argmax(dim=1).numpy() == label[rows]
            parts.append(f"{title} view {view}: {100 * correct.mean():.1f}")
    visual.train()
    return ", ".join(parts)


def start_tower(args: argparse.Namespace, state: dict[str, Any]) -> Any:
    """Return the tower with 4 blocks, or grown to 12 from the shallow checkpoint, with the saved state if any."""
    visual: Any = build_clip(4).visual
    if args.stage == "deep":
        if "model" not in state:
            visual.load_state_dict(torch.load(args.work / args.start)["model"])
        visual.transformer.resblocks = grow(visual.transformer.resblocks, 12)
    if "model" in state:
        visual.load_state_dict(state["model"])
    return visual


def train(
    visual: Any, pictures: Pictures, targets: TextTargets, state: dict[str, Any], args: argparse.Namespace
) -> None:
    """Train to the last step; save and validate every 250 steps, and at the step to keep."""
    path = args.work / args.out
    scale = nn.Parameter(state.get("scale", torch.full((2,), np.log(20.0))))
    rest = [p for n, p in visual.named_parameters() if "resblocks" not in n]
    optimisers = make_optimisers(visual.transformer.resblocks, [*rest, scale], args.muon, args.adam)
    for optimiser, saved in zip(optimisers, state.get("optimisers", []), strict=False):
        optimiser.load_state_dict(saved)
    share = sampling(pictures, targets.subgroups, args.clipart)
    mirrored = np.array([not any(d in r["name"] for d in DIRECTED) for r in pictures.records])
    rng = np.random.default_rng([args.seed, state["step"]])
    seen: list[float] = []
    start = time.time()
    for step in range(state["step"], args.steps):
        rows = rng.choice(pictures.train, args.batch, p=share)
        set_rate(optimisers, step, args.steps)
        loss = loss_of(visual(draw_batch(pictures, rows, mirrored, rng)), rows, pictures, targets, scale)
        for optimiser in optimisers:
            optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(rest, 1.0)
        for optimiser in optimisers:
            optimiser.step()
        seen.append(loss.item())
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {np.mean(seen[-50:]):.3f} {time.time() - start:.0f} s", flush=True)
        if (step + 1) % 250 == 0 or step + 1 in (args.keep, args.steps):
            print(validate(visual, pictures, targets), flush=True)
            now = {"step": step + 1, "model": visual.state_dict(), "scale": scale.data}
            if step + 1 == args.keep:
                save(path.with_stem(f"{path.stem}_{step + 1}"), now)
            save(path, now | {"optimisers": [o.state_dict() for o in optimisers]})


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--stage", choices=("shallow", "deep"), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--muon", type=float, required=True)
    parser.add_argument("--adam", type=float, default=2e-3)
    parser.add_argument("--clipart", type=float, default=0.0, help="share of clip art in a batch")
    parser.add_argument("--start", help="checkpoint to grow from (deep stage)")
    parser.add_argument("--out", required=True)
    parser.add_argument("--keep", type=int, help="step whose checkpoint is kept as well")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    data = np.load(args.work / "targets.npz")
    pictures = load(args.work, data["codes"].tolist())
    text = None
    if args.stage == "deep":
        text = build_clip(12)
        text.load_state_dict(torch.load(args.work / "text.pt")["model"], strict=False)
        text.eval()
    path = args.work / args.out
    state: dict[str, Any] = torch.load(path) if path.exists() else {"step": 0}
    train(start_tower(args, state), pictures, TextTargets(args.work, pictures, data, text), state, args)


if __name__ == "__main__":
    main()
