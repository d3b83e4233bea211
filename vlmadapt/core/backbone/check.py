"""A backbone is compared once with open_clip's own forward: refused with a sentence rather than answered wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vlmadapt.core.block import run_block
from vlmadapt.core.layout import lay_out
from vlmadapt.core.rows import Rows
from vlmadapt.errors import BackboneError

if TYPE_CHECKING:
    from vlmadapt.core.backbone.backbone import Backbone
    from vlmadapt.core.backbone.tower import ImageTower, TextTower


@torch.no_grad()
def check_towers(backbone: Backbone) -> None:
    """Run each tower part by part and by open_clip's own forward.

    Raises:
        BackboneError: the two disagree.
    """
    if backbone.device.type == "meta":
        return
    image, text = backbone.image, backbone.text
    if image.blocks:
        height, width = image.size
        pixels = torch.linspace(-1, 1, 3 * height * width, device=backbone.device).reshape(1, 3, height, width)
        rows = Rows.of(image.embed(pixels)[:, None], None, {})
        _compare(backbone.name, "image", _features(image, rows), image.encode(pixels))
    if text.blocks:
        ids = text.tokenize(["a photo of a cat."]).to(backbone.device)
        rows = Rows.of(text.embed(ids)[None], text.end(ids), {})
        _compare(backbone.name, "text", _features(text, rows), text.encode(ids))


def _features(tower: ImageTower | TextTower, rows: Rows) -> Tensor:
    layout = lay_out(rows, tower.causal, pack=False)
    for block in tower.blocks:
        rows = run_block(block, rows, layout, ())
    return tower.project(tower.norm(rows.read_end())).flatten(0, -2)


def _compare(name: str, side: str, ours: Tensor, theirs: Tensor) -> None:
    difference = float((ours - theirs).abs().max())
    if difference > 1e-3 * float(theirs.abs().max()):
        raise BackboneError(
            f"the {side} tower of '{name}', run block by block, does not give what open_clip gives (difference "
            f"{difference:.1e}); this kind of model is not supported."
        )
