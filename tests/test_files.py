"""Reading files that users and strangers give: bounded, regular, UTF-8, and one sentence otherwise."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from vlmadapt.errors import DataError
from vlmadapt.files import printable, read_json, read_text, read_yaml_text


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\n")
    assert read_text(tmp_path / "a.txt") == "café\n"


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("12345")
    assert read_text(tmp_path / "a.txt", limit=5) == "12345"
    with pytest.raises(DataError, match=r"a\.txt' is not read: it has more than"):
        read_text(tmp_path / "a.txt", limit=4)


def test_pipes_devices_and_folders_end_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    start = time.monotonic()
    for path in (tmp_path / "pipe", tmp_path / "zero", tmp_path):
        with pytest.raises(DataError, match="not a regular file"):
            read_text(path)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("name", ["missing.txt", "x" * 5000, "nul\0"])
def test_files_that_cannot_exist_are_a_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot be read: "):
        read_text(tmp_path / name)


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"not UTF-8 text \(line 2\)"):
        read_text(tmp_path / "a.txt")


def test_deep_json_and_yaml_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("[" * 200_000)
    with pytest.raises(DataError, match="is not valid JSON"):
        read_json(tmp_path / "deep")
    (tmp_path / "deep").write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read_json(tmp_path / "deep")
    with pytest.raises(DataError, match="nested too deeply"):
        read_yaml_text(tmp_path / "deep")


def test_a_yaml_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"an alias; write the value itself.* line 2"):
        read_yaml_text(tmp_path / "bomb.yaml")


def test_yaml_scalars_stay_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"seen: [no, 007, 2024-01-01, {'9' * 5000}]\nunseen:\n")
    content = read_yaml_text(tmp_path / "a.yaml")
    assert content == {"seen": ["no", "007", "2024-01-01", "9" * 5000], "unseen": ""}


def test_tags_of_python_objects_run_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"!!python/object/apply:os.mkdir ['{tmp_path / 'made'}']")
    read_yaml_text(tmp_path / "a.yaml")
    assert not (tmp_path / "made").exists()


def test_names_are_printable_in_messages() -> None:
    assert printable(Path(os.fsdecode(b"caf\xe9\n.png"))) == r"caf\xe9\n.png"
