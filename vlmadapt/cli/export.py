"""`vlmadapt export`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from vlmadapt.cli.parsing import add_backbone, add_classes, class_list, new_parser, parse
from vlmadapt.runs.run import Run

DESCRIPTION = """Write a finished run as one model: preprocessed images in, probabilities of its classes out. A JSON
file next to it has the labels in order and the preprocessing. The answers are compared with the run's before anything
is written."""
ENDINGS = {"onnx": ".onnx", "torchscript": ".torchscript.pt", "pt2": ".pt2"}


def run(arguments: list[str]) -> None:
    """Parse, export, say where."""
    parser = new_parser("export", DESCRIPTION)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--to", type=Literal["onnx", "torchscript", "pt2"], required=True, help="format of the model")
    parser.add_argument("--out", type=str | None, default=None, help="file to be written; by default in the run folder")
    add_classes(parser)
    add_backbone(parser)
    given = parse(parser, arguments)
    source = Run.open(given.run)
    out = Path(given.out or source.folder / f"model{ENDINGS[given.to]}")
    classes = class_list(given.classes)
    from vlmadapt.deploy.export import BOUND, export, origin_of
    from vlmadapt.evaluation.predict import load

    predictor = load(source.folder, classes, given.backbone, "fp32")
    predictor.classifier.backbone.cpu()
    predictor.classifier.method.cpu()
    found = export(predictor, given.to, out, origin_of(source.folder, source.adapter))
    print(f"written to {found.model}, labels and preprocessing to {found.labels}")
    if found.difference is None:
        print("not compared with the run: that takes onnxruntime.")
    else:
        print(f"probabilities differ from the run's by at most {found.difference:.1g} (allowed: {BOUND:g})")
