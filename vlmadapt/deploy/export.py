"""Export a run as one model, image tensor in and probabilities out: ONNX, TorchScript or a `torch.export` archive."""

from __future__ import annotations

import glob
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from vlmadapt.core.adapter import read_config
from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.predictor import Predictor
from vlmadapt.files import as_json, read_json, replacing
from vlmadapt.text import first_line

Format = Literal["onnx", "torchscript", "pt2"]
BOUND = 1e-4
"""Largest difference of a probability between the run and what was exported of it."""
CHECKED = 5
"""Images of random pixels that both are compared on; another number than the export has seen."""


@dataclass(frozen=True)
class Exported:
    """A written model.

    Attributes:
        model: the file.
        labels: JSON with the classes in the order of the probabilities, the preprocessing and the origin.
        difference: largest difference of a probability from the run's; None if there was nothing to compute it with.
    """

    model: Path
    labels: Path
    difference: float | None


class Probabilities(nn.Module):
    """Probabilities of fixed classes; holds the image tower and the method, and of the class names their features."""

    def __init__(self, predictor: Predictor):
        super().__init__()
        self.image_tower = predictor.classifier.backbone.model.visual
        self.method = predictor.classifier.method
        self._predictor = predictor

    def forward(self, images: Tensor) -> Tensor:
        """Preprocessed images (B, 3, H, W) -> probabilities (B, classes)."""
        answered = self._predictor
        scores = answered.classifier.route(images, answered.classes, answered.role)
        return (scores / answered.temperature).softmax(dim=-1)


def export(predictor: Predictor, kind: Format, out: Path, origin: dict[str, Any] | None = None) -> Exported:
    """Write the model and a JSON file with its labels next to it, after both answered the same.

    Args:
        predictor: loaded run, in full precision on the CPU.
        kind: format.
        out: file of the model.
        origin: what the model was made from, for the JSON file.

    Raises:
        VlmadaptError: the method encodes the class names for each image, its computation cannot be exported, its
            answers differ, a package is missing, or the JSON file is that of something else.
    """
    if kind == "onnx" and find_spec("onnxscript") is None:
        raise VlmadaptError("exports to ONNX need onnx and onnxscript: pip install 'vlmadapt[export]'.")
    labels = out.with_suffix(".json")
    _check_place(out, labels, predictor)
    module = Probabilities(predictor).eval()
    size = predictor.classifier.backbone.image.size
    example, images = torch.randn(2, 3, *size), torch.randn(CHECKED, 3, *size)
    with torch.no_grad(), predictor.classifier.unchanged(), _quiet():
        _check_text(predictor, example)
        expected = module(images)
        try:
            content = _WRITERS[kind](module, example)
        except Exception as error:  # tracing may fail in any way
            method = type(predictor.classifier.method).__name__
            raise VlmadaptError(f"{method} cannot be exported to {kind}: {first_line(error, named=True)}.") from error
        found = _READERS[kind](content, images)
    difference = None if found is None else (found - expected).abs().max().item()
    if difference is not None and not difference <= BOUND:
        raise VlmadaptError(
            f"the exported model's probabilities differ by up to {difference:.1g} from the run's, more than {BOUND:g}; "
            "nothing was written."
        )
    described = {**_description(predictor, kind), "largest_difference": difference, **(origin or {})}
    with replacing(out, labels) as (model_file, labels_file):
        model_file.write_bytes(content)
        labels_file.write_text(as_json(described), encoding="utf-8")
    return Exported(out, labels, difference)


def origin_of(run: Path, adapter: Path) -> dict[str, Any]:
    """What an exported model was made from: run, method, backbone and version."""
    config = read_config(adapter)
    return {
        "run": str(run),
        "method": config.method,
        "backbone": config.backbone["name"],
        "vlmadapt": version("vlmadapt"),
    }


def _check_place(out: Path, labels: Path, predictor: Predictor) -> None:
    """Refuse to write labels over a file that something else needs, such as a model with other labels.

    Raises:
        VlmadaptError: it is the model itself, no file of labels, or that of a model in another format.
    """
    if out == labels:
        raise VlmadaptError(f"'{out}' is the place of the labels; give the model's file another ending.")
    if not labels.exists():
        return
    found = read_json(labels)
    if not isinstance(found, dict) or "labels" not in found:
        raise VlmadaptError(f"'{labels}', where the labels belong, is another file; name another with --out.")
    models = [path for path in out.parent.glob(f"{glob.escape(out.stem)}.*") if path not in (out, labels)]
    if models and found["labels"] != list(predictor.classes):
        raise VlmadaptError(
            f"'{labels}' has the labels of '{models[0].name}', which are others; name another file with --out."
        )


def _check_text(predictor: Predictor, example: Tensor) -> None:
    """Refuse methods whose class features depend on the image.

    Raises:
        VlmadaptError: the method is one of them.
    """
    fwd = predictor.classifier.forward(example, predictor.classes)
    if fwd.plan.text_differs_by_image:
        method = type(predictor.classifier.method).__name__
        raise VlmadaptError(
            f"{method} encodes the class names again for each image, so that an exported model would need the text "
            "tower for every image; export a run of another method."
        )


def _description(predictor: Predictor, kind: Format) -> dict[str, Any]:
    backbone = predictor.classifier.backbone
    return {
        "format": kind,
        "labels": list(predictor.classes),
        "input": {"name": "images", "shape": ["batch", 3, *backbone.image.size], "type": "float32"},
        "output": {"name": "probabilities", "shape": ["batch", len(predictor.classes)], "type": "float32"},
        "preprocessing": json.loads(json.dumps(backbone.preprocess_config)),
    }


def _program(module: Probabilities, example: Tensor) -> ExportedProgram:
    return torch.export.export(module, (example,), dynamic_shapes={"images": {0: Dim("batch", min=1, max=65536)}})


def _onnx(module: Probabilities, example: Tensor) -> bytes:
    program = torch.onnx.export(
        _program(module, example), dynamo=True, verbose=False, input_names=["images"], output_names=["probabilities"]
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def _torchscript(module: Probabilities, example: Tensor) -> bytes:
    written = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, (example,), check_trace=False), written)
    return written.getvalue()


def _pt2(module: Probabilities, example: Tensor) -> bytes:
    written = io.BytesIO()
    torch.export.save(_program(module, example), written)
    return written.getvalue()


def _run_onnx(content: bytes, images: Tensor) -> Tensor | None:
    if find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"images": images.numpy()})
    return torch.from_numpy(found)


def _run_torchscript(content: bytes, images: Tensor) -> Tensor:
    found: Tensor = torch.jit.load(io.BytesIO(content))(images)
    return found


def _run_pt2(content: bytes, images: Tensor) -> Tensor:
    found: Tensor = torch.export.load(io.BytesIO(content)).module()(images)
    return found


_WRITERS: dict[Format, Callable[[Probabilities, Tensor], bytes]] = {
    "onnx": _onnx,
    "torchscript": _torchscript,
    "pt2": _pt2,
}
_READERS: dict[Format, Callable[[bytes, Tensor], Tensor | None]] = {
    "onnx": _run_onnx,
    "torchscript": _run_torchscript,
    "pt2": _run_pt2,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the exporters, which are about their own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
