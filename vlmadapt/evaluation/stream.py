"""State of a test stream in a file: one safetensors file, with the classes in its header."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from safetensors import SafetensorError, safe_open

from vlmadapt.core.classifier import Classifier
from vlmadapt.errors import AdapterError, VlmadaptError
from vlmadapt.files import write_tensors
from vlmadapt.roles import Role
from vlmadapt.shapes import check_shape
from vlmadapt.text import first_few, first_line

FORMAT = 1


class Header(TypedDict):
    """Header of the file.

    Attributes:
        format: version of the file.
        classes: class names, in the order of the scores.
        role: role of the classes.
        images: number of images that the stream has seen.
    """

    format: int
    classes: list[str]
    role: str
    images: int


def save_stream(path: Path, classifier: Classifier, classes: Sequence[str], role: Role, images: int) -> None:
    """Write what a stream of so many images has left in the method, atomically."""
    header = Header(format=FORMAT, classes=list(classes), role=role.value, images=images)
    tensors = {name: tensor.cpu().contiguous() for name, tensor in classifier.stream_state().items()}
    write_tensors(path, tensors, {"stream": json.dumps(header)})


def continue_stream(path: Path, classifier: Classifier, classes: Sequence[str], role: Role) -> int:
    """Continue the stream in a file.

    Returns:
        Number of images that it has seen.

    Raises:
        VlmadaptError: the file cannot be read, or has the stream of other classes or of another method.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["stream"])
            check_shape(header, Header)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, LookupError, ValueError, RecursionError) as error:
        raise VlmadaptError(f"'{path}' does not hold the state of a stream: {first_line(error)}.") from error
    if header["format"] != FORMAT:
        raise VlmadaptError(f"'{path}' has format {header['format']}; this version reads format {FORMAT}.")
    if (header["classes"], header["role"]) != (list(classes), role.value):
        raise VlmadaptError(
            f"'{path}' holds a stream of other classes: {first_few(header['classes'], 3)}. Give all of them in their "
            "order, one a line, with --classes FILE; data.json of its run lists them for each tested group."
        )
    try:
        classifier.continue_stream(tensors, classes, role)
    except AdapterError as error:
        raise VlmadaptError(f"'{path}' cannot be continued: {error}") from error
    images: int = header["images"]
    return images
