"""Atomic file writes, and bounded reads of files that users and strangers give."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vlmadapt.errors import DataError, VlmadaptError

if TYPE_CHECKING:
    from torch import Tensor

TEXT_LIMIT = 64 * 2**20
"""Bytes of the largest text file that is read."""
TEMPORARY = ".tmp"
"""End of the names of temporary files, which start with a dot."""
YAML_LIMIT = 2**20
"""Bytes of the largest YAML file that is read; its parser needs seconds for more."""


def read_text(path: Path, limit: int = TEXT_LIMIT) -> str:
    """Text of a regular UTF-8 file, without its byte-order mark.

    Args:
        path: the file.
        limit: bytes that it may have.

    Raises:
        DataError: the file is missing, too large, not UTF-8, or a folder, pipe or device.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{_quoted(path)} cannot be read: it is not a regular file.")
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DataError(f"{_quoted(path)} cannot be read: {cause}.") from error
    if len(content) > limit:
        raise DataError(f"{_quoted(path)} is not read: it has more than {limit / 2**20:g} MiB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{_quoted(path)} is not UTF-8 text (line {line}); save it as UTF-8.") from error


def read_json(path: Path, limit: int = TEXT_LIMIT) -> Any:
    """Content of a JSON file.

    Raises:
        DataError: see `read_text`; or the content is not JSON, or nested too deeply.
    """
    return parse_json(read_text(path, limit), _quoted(path))


def parse_json(text: str, where: str) -> Any:
    """A JSON value.

    Args:
        text: the value.
        where: its place, for the message.

    Raises:
        DataError: the text is not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is not valid JSON ({_cause(error)}).") from error


def read_yaml_text(path: Path) -> Any:
    """Content of a YAML or JSON file with every scalar as text: `no` stays 'no' and `007` stays '007'.

    Aliases are refused: a short file can unfold to gigabytes with them.

    Raises:
        DataError: see `read_text`; or the content is not YAML, has an alias, or is nested too deeply.
    """
    try:
        return parse_yaml(read_text(path, YAML_LIMIT), _TextLoader)
    except ValueError as error:
        raise DataError(f"{_quoted(path)} is not valid YAML ({error}).") from error


def parse_yaml(text: str, loader: type[_TextLoader | _PlainLoader] | None = None) -> Any:
    """A YAML value of plain types, without aliases.

    Args:
        text: the value.
        loader: by default numbers, dates and so on are converted as `yaml.safe_load` does.

    Raises:
        ValueError: the text is not YAML, has an alias, or is nested too deeply.
    """
    try:
        return yaml.load(text, loader or _PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(_cause(error)) from error


def as_yaml(content: Any) -> str:
    """Readable YAML without aliases."""
    return yaml.dump(content, Dumper=_PlainDumper, sort_keys=False)


class _PlainDumper(yaml.SafeDumper):
    """Writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


class _NoAliases(yaml.parser.Parser, yaml.composer.Composer):
    """Refuses aliases."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="an alias; write the value itself", problem_mark=mark)
        return super().compose_node(parent, index)


class _TextLoader(_NoAliases, yaml.BaseLoader):
    """Scalars as text."""


class _PlainLoader(_NoAliases, yaml.SafeLoader):
    """Scalars as plain types."""


def exists(path: Path) -> bool:
    """True if the path exists; False for names that no file can have, such as very long ones."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def printable(name: str | Path) -> str:
    """A file name for messages: bytes that are not UTF-8 and control characters are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _quoted(path: Path) -> str:
    return f"'{printable(path)}'"


def _cause(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:200]


@contextmanager
def replacing(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Temporary files next to `paths`, to be filled; after the block they replace `paths` one after another.

    Whatever goes wrong before (a full disk, Ctrl-C), the previous files stay as they were. A reader may find the first
    file new and the next one old, so files that belong together need a checksum of each other.

    Raises:
        VlmadaptError: the disk is full, or the place cannot be written to.
    """
    temporaries: list[Path] = []
    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=TEMPORARY)
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
        raise VlmadaptError(
            f"{names} cannot be written: {error.strerror or error}; the previous content is kept."
        ) from error
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


def sweep_temporaries(folder: Path) -> None:
    """Remove temporary files that a killed process has left in a folder; nobody else may be writing there."""
    for path in folder.glob(f".*{TEMPORARY}"):
        with suppress(OSError):
            path.unlink()


def content_sha256(content: Any) -> str:
    """SHA-256 of a JSON value, whatever its layout in a file."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def as_json(content: Any) -> str:
    """Readable JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def as_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Content of a safetensors file; tensors that share memory are stored separately."""
    from safetensors.torch import save

    stored = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    # Without tensors and with empty metadata, safetensors writes a file that it cannot read.
    return save(stored, metadata=dict(metadata) if metadata else None)
