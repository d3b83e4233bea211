"""Downloads from a server of our own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest

from vlmadapt.plugin import DataError
from vlmadapt_benchmarks import http
from vlmadapt_benchmarks.http import check_sha256, download

CONTENT = bytes(range(256)) * 64


class Server(ThreadingHTTPServer):
    """Serves `content`; requests are noted."""

    content = CONTENT
    tag: str | None = '"one"'
    ranges = True
    breaks = False
    stalls = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/archive.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.asked.append(asked)
        content = self.server.content
        same = self.headers["If-Range"] == self.server.tag
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and same and self.server.ranges else 0
        if self.path != "/archive.zip" or start >= len(content):
            self.send_error(416 if start else 404)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if self.server.tag:
            self.send_header("ETag", self.server.tag)
        self.end_headers()
        self.wfile.write(content[start : len(content) // 2 if self.server.breaks or self.server.stalls else None])
        if self.server.stalls:
            self.wfile.flush()
            time.sleep(1)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_broken_download_is_continued(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "archive.part"
    server.breaks = True
    with pytest.raises(DataError, match="broke off"):
        download(server.url, file)
    assert file.read_bytes() == CONTENT[: len(CONTENT) // 2]
    server.breaks = False
    download(server.url, file)
    assert file.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_log_file_gets_lines_of_progress(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(http, "SAY_EVERY", -1.0)
    server.content = bytes(3 * 2**20)
    download(server.url, tmp_path / "archive.zip")
    said = capsys.readouterr()
    assert said.err.splitlines()[-1] == "archive.zip: 3 of 3 MiB" and said.out == ""
    assert (tmp_path / "archive.zip").stat().st_size == 3 * 2**20


def test_a_server_that_cannot_go_on_sends_all_of_it(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "archive.part"
    file.write_bytes(b"something else")
    server.ranges = False
    download(server.url, file)
    assert file.read_bytes() == CONTENT


def test_a_whole_file_is_left_alone(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "archive.part"
    download(server.url, file)
    download(server.url, file)
    assert file.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT)}-"]


@pytest.mark.parametrize("tag", ['"two"', None, 'W/"one"'])
def test_a_part_of_a_file_that_has_changed_or_is_unknown_is_not_continued(
    server: Server, tmp_path: Path, tag: str | None
) -> None:
    file = tmp_path / "archive.part"
    server.breaks = True
    server.tag = '"one"' if tag == '"two"' else tag
    with pytest.raises(DataError, match="broke off"):
        download(server.url, file)
    server.breaks, server.content, server.tag = False, CONTENT[::-1], tag
    download(server.url, file)
    assert file.read_bytes() == CONTENT[::-1]


def test_a_download_times_out_and_its_part_is_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "TIMEOUT", 0.2)
    server.stalls, server.content = True, CONTENT * 64
    with pytest.raises(DataError, match="broke off; the same command continues it"):
        download(server.url, tmp_path / "archive.part")
    assert (tmp_path / "archive.part").stat().st_size > len(server.content) // 4


def test_a_download_with_another_checksum_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    check_sha256(file, digest, "https://a")
    assert file.exists()
    with pytest.raises(DataError, match=f"https://a has the SHA-256 {digest}, published is {'0' * 64}; it was removed"):
        check_sha256(file, "0" * 64, "https://a")
    assert not file.exists()


def test_a_missing_file_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HTTPError):
        download(server.url + "x", tmp_path / "archive.part")
