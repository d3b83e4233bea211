"""Tables of architectures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from vlmadapt.cli.tables.console import console
from vlmadapt.core.loading.catalog import ArchitectureInfo, TowerInfo

COLUMNS = ("architecture", "image tower", "text tower", "joint", "methods")


def backbones_table(found: Sequence[ArchitectureInfo]) -> None:
    """Print a row for each architecture, and how many open."""
    table = Table()
    for name in (*COLUMNS, "tags", "cached"):
        table.add_column(name, overflow="fold", justify="right" if name in ("joint", "tags") else "left")
    for info in found:
        table.add_row(*_row(info), str(len(info.tags)), ", ".join(info.cached))
    out = console()
    out.print(table)
    out.print(summary(found), soft_wrap=True)


def backbones_json(found: Sequence[ArchitectureInfo]) -> None:
    """Print everything known about each architecture."""
    print(json.dumps([{**asdict(info), "opens": info.opens, "complete": info.complete} for info in found]))


def backbones_markdown(found: Sequence[ArchitectureInfo]) -> None:
    """Print the table of the documentation: nothing in it depends on this machine's cache."""
    print(summary(found), end="\n\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for info in found:
        print(f"| {' | '.join(_row(info))} |")


def summary(found: Sequence[ArchitectureInfo]) -> str:
    """How many of the architectures open, and on how many all methods run that can."""
    image, text = (sum(bool(tower.depth) for tower in towers) for towers in zip(*map(_towers, found), strict=True))
    both = sum(info.opens for info in found)
    maps, complete = sum(info.image.on_feature_maps for info in found), sum(info.complete for info in found)
    return (
        f"Of {len(found)} architectures, {both} open in both towers, so that methods can work inside them; the image "
        f"tower opens in {image}, the text tower in {text}. In {maps} the image tower has feature maps instead of "
        f"tokens: no method can work inside it, and all that work outside it run. {complete} of {len(found)} thus work "
        "with every method that their towers have tokens for."
    )


def _towers(info: ArchitectureInfo) -> tuple[TowerInfo, TowerInfo]:
    return info.image, info.text


def _row(info: ArchitectureInfo) -> tuple[str, ...]:
    return info.name, _tower(info.image), _tower(info.text), str(info.joint), _methods(info)


def _tower(tower: TowerInfo) -> str:
    if tower.depth:
        return f"{tower.family}, {tower.depth} x {tower.width}"
    return f"{tower.family}, {'feature maps' if tower.on_feature_maps else 'output only'}"


def _methods(info: ArchitectureInfo) -> str:
    closed = [side for side, tower in (("image", info.image), ("text", info.text)) if not tower.depth]
    return f"outside the {' and the '.join(closed)} tower" if closed else "all"
