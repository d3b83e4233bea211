"""Files that are either written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmadapt.errors import VlmadaptError

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary files beside `paths`, to be filled; behind the block they take their places together.

    Whatever goes wrong before (a full disk, Ctrl-C), the previous files stay as they were.

    Raises:
        VlmadaptError: the disk is full, or the place cannot be written to.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
            os.close(handle)
            temporaries.append(Path(name))
        yield tuple(temporaries)
        for temporary in temporaries:
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
        for temporary, path in zip(temporaries, paths, strict=True):
            temporary.replace(path)
    except OSError as error:
        names = " and ".join(f"'{path}'" for path in paths)
        raise VlmadaptError(f"{names} cannot be written: {error.strerror or error}; what was there is kept.") from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as (temporary,):
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically."""
    write_text(path, as_json(content))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write safetensors atomically."""
    with replacing(path) as (temporary,):
        temporary.write_bytes(as_safetensors(tensors, metadata))


def as_json(content: Any) -> str:
    """Readable JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file; tensors that share memory are stored apart."""
    from safetensors.torch import save

    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # Of no tensors and an empty dictionary of metadata safetensors makes a file that it cannot read.
    return save(stored, metadata=dict(metadata) if metadata else None)
