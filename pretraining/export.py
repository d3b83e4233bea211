"""Step 6 of the recipe: export both towers as the open_clip folder that the library ships.

Reads  WORK/text.pt, WORK/NAME.pt.  Writes OUT/{open_clip_config.json, open_clip_model.safetensors, vocabulary}.
The logit scale is the one that minimises the cross entropy on the validation artist.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import CONFIG, build_clip, grow, write_merges
from evaluate import PLUGIN, class_vectors, fitted_scale, image_vectors
from image_data import classes_of, load, normalise
from safetensors.torch import save_file
from torch import Tensor


def average(checkpoints: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean weights of checkpoints of one run; it transfers better to new styles than the last checkpoint."""
    return {name: torch.stack([c[name] for c in checkpoints]).mean(dim=0) for name in checkpoints[0]}


def assemble(work: Path, text: str, images: list[str]) -> Any:
    """Return the 12-block CLIP; a checkpoint with fewer blocks is grown, which does not change its outputs."""
    saved_text, saved_image = torch.load(work / text), average([torch.load(work / i)["model"] for i in images])
    clip = build_clip(saved_text["blocks"])
    clip.load_state_dict(saved_text["model"], strict=False)
    depth = 1 + max(int(k.split(".")[2]) for k in saved_image if k.startswith("transformer.resblocks"))
    visual = build_clip(depth).visual
    visual.load_state_dict(saved_image)
    whole = build_clip(12)
    for tower in (clip.transformer, visual.transformer):
        tower.resblocks = grow(tower.resblocks, 12)
    weights = {k: v for k, v in clip.state_dict().items() if not k.startswith("visual.")}
    whole.load_state_dict(weights | {f"visual.{k}": v for k, v in visual.state_dict().items()})
    return whole.eval()


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--text", default="text.pt")
    parser.add_argument("--image", nargs="+", default=["deep.pt"], help="checkpoints, averaged if several")
    parser.add_argument("--out", type=Path, default=PLUGIN)
    args = parser.parse_args()
    from open_clip.tokenizer import SimpleTokenizer

    clip = assemble(args.work, args.text, args.image).half().float()  # with the rounding of the float16 file
    args.out.mkdir(parents=True, exist_ok=True)
    vocabulary = args.out / "bpe_simple_vocab_3k.txt.gz"
    write_merges(vocabulary)
    pictures = load(args.work, np.load(args.work / "targets.npz")["codes"].tolist())
    classes, label = classes_of(pictures)
    rows = pictures.validation[label[pictures.validation] >= 0]
    words = class_vectors(
        clip, SimpleTokenizer(bpe_path=str(vocabulary), context_length=32), classes, "a picture of a {}."
    )
    scale = fitted_scale(image_vectors(clip, normalise(pictures.pixels[rows, 0])), label[rows], words)
    clip.logit_scale.data.fill_(float(np.log(scale)))
    if args.out != CONFIG.parent:
        shutil.copy(CONFIG, args.out / CONFIG.name)
    weights = {k: v.half().contiguous() for k, v in clip.state_dict().items() if k != "attn_mask"}
    target = args.out / "open_clip_model.safetensors"
    save_file(weights, target, metadata={"format": "pt"})
    target.chmod(0o644)  # safetensors writes files that only the owner may read
    size = target.stat().st_size
    print(json.dumps({"parameters": sum(v.numel() for v in weights.values()), "bytes": size, "logit scale": scale}))


if __name__ == "__main__":
    main()
