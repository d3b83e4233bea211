"""Model card of a shared run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from vlmadapt.evaluation.titles import metric_title
from vlmadapt.files import as_yaml
from vlmadapt.text import counted, first_few

WORST = 5
"""Classes of lowest accuracy that are named as limits."""


@dataclass(frozen=True)
class Card:
    """What a model card says.

    Attributes:
        repository: OWNER/NAME.
        licence: identifier of the adapter's licence; None if its owner has not chosen one.
        paper: publication of the method.
        weights: SHA-256 of the backbone's weights.
        trained: names of the classes trained on.
        result: shared part of the run's result.
    """

    repository: str
    licence: str | None
    paper: str
    weights: str
    trained: Sequence[str]
    result: Mapping[str, Any]


def model_card(card: Card) -> str:
    """The card in Markdown, with the metadata that the Hub reads at its head."""
    r = card.result
    shots = counted(r["shots"], "training image") + " per class" if r["shots"] else "all training images"
    lines = [
        f"# {card.repository.rpartition('/')[2]}",
        "",
        f"An adapter of the method `{r['method']}` ({card.paper or 'no publication'}) for the backbone "
        f"`{r['backbone']}`, trained with vlmadapt. The backbone is not part of "
        "it and does not change.",
        "",
        "## Use it",
        "",
        "```python",
        "from vlmadapt import load",
        "",
        f'print(list(load("hf:{card.repository}").predict(["photo.jpg"], top=3)))',
        "```",
        "",
        "## Training",
        "",
        f"- Data: {r['data']}, protocol {r['protocol']}, {shots}, seed {r['seed']}; split `{r['data_sha256']}` "
        "(SHA-256 of file names and labels)",
        f"- Backbone weights: `{card.weights}` (SHA-256)",
        f"- Trained parameters: {r['trainable_parameters']:,}",
        f"- Classes ({len(card.trained)}): {', '.join(card.trained)}",
        "",
        "## Accuracy",
        "",
        *_accuracies(r),
        "",
        "In percent. The intervals are over test images (Wilson); they do not cover other seeds or splits.",
        "",
        "## Limits",
        "",
        *_limits(r),
        "",
        "## Licences",
        "",
        f"- Adapter: {card.licence or 'not stated by its owner'}",
        "- The licences of the backbone and of the training data apply as well.",
    ]
    return f"---\n{as_yaml(_metadata(card))}---\n\n" + "\n".join(lines) + "\n"


def wilson(right: int, images: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927), in percent."""
    z, share = 1.959964, right / images
    centre = share + z * z / (2 * images)
    half = z * sqrt(share * (1 - share) / images + z * z / (4 * images * images))
    scale = 100 / (1 + z * z / images)
    return max(scale * (centre - half), 0.0), min(scale * (centre + half), 100.0)


def _metadata(card: Card) -> dict[str, Any]:
    licence = {} if card.licence is None else {"license": card.licence}
    return {
        **licence,
        "library_name": "vlmadapt",
        "pipeline_tag": "image-classification",
        "tags": ["vlmadapt", "clip", "few-shot", card.result["method"]],
    }


def _accuracies(result: Mapping[str, Any]) -> Iterator[str]:
    groups = {group["name"]: group for group in result["groups"]}
    yield "| tested on | images | chance | zero-shot | this adapter | 95 % interval |"
    yield "|---|---:|---:|---:|---:|---:|"
    for name, percent in result["accuracy"].items():
        group = groups.get(name)
        low, high = wilson(group["correct"], group["total"]) if group else (0.0, 0.0)
        others = [f"{result[kind][name]:.2f}" if kind in result else "" for kind in ("chance", "zero_shot")]
        interval = f"{low:.2f} to {high:.2f}" if group else ""
        cells = [metric_title(name), str(group["total"]) if group else "", *others, f"{percent:.2f}", interval]
        yield f"| {' | '.join(cells)} |"


def _limits(result: Mapping[str, Any]) -> Iterator[str]:
    yield "- The numbers hold for images like those it was tested on; images of other sources may give others."
    yield "- It always answers with one of its classes, for images of none of them too."
    for group in result["groups"]:
        shares = {name: share for name, share in group["classes"].items() if share is not None}
        worst = sorted(shares, key=lambda name: shares[name])[:WORST]
        yield f"- Lowest accuracy of {group['name']}: {first_few([f'{n} {100 * shares[n]:.0f} %' for n in worst])}"
