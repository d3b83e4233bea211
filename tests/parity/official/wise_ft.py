"""WiSE-FT, around methods that train parts of CLIP's own image encoder."""

from __future__ import annotations

from typing import Any

from tests.parity.official.names import Official, Options

METHOD = "wise_ft"


def official() -> Official:
    def options(hyper: dict[str, Any], oracle: dict[str, Any]) -> Options:
        if "image_encoder.model.visual.proj" in oracle["trainable"]:
            return {"wraps": "prolip"}
        return {"wraps": "2sfs", "options": {"towers": "image"}}

    block = r"image_encoder\.model\.visual\.transformer\.resblocks\.(\d+)"
    norms = [
        (rf"{block}\.ln_{number}\.(weight|bias)", rf"inner.image.\1.{number - 1}.copies.\2.difference")
        for number in (1, 2)
    ]
    # Weight and bias of two norms in each of up to 48 blocks, and the classifier.
    copies = [f"{stage}.{i}" for stage in ("start", "trained") for i in range(4 * 48 + 1)]
    return Official(
        method="wise-ft",
        options=options,
        names=((r"image_encoder\.model\.visual\.proj", "inner.projection.difference"), *norms),
        later=("inner.classifier", *copies),
    )
