"""Downloads from a server of our own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest

from vlmadapt.plugin import DataError
from vlmadapt_benchmarks.http import download

CONTENT = bytes(range(256)) * 64


class Server(ThreadingHTTPServer):
    """Serves `CONTENT`; what it is asked for is noted."""

    ranges = True
    breaks = False

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
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if self.path != "/archive.zip" or start >= len(CONTENT):
            self.send_error(416 if start else 404)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : len(CONTENT) // 2 if self.server.breaks else None])

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_broken_download_goes_on(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "archive.part"
    server.breaks = True
    with pytest.raises(DataError, match="broke off"):
        download(server.url, file)
    assert file.read_bytes() == CONTENT[: len(CONTENT) // 2]
    server.breaks = False
    download(server.url, file)
    assert file.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={len(CONTENT) // 2}-"]


def test_a_server_that_cannot_go_on_sends_all_of_it(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "archive.part"
    file.write_bytes(b"something else")
    server.ranges = False
    download(server.url, file)
    assert file.read_bytes() == CONTENT


def test_a_whole_file_is_left_alone(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "archive.part"
    file.write_bytes(CONTENT)
    download(server.url, file)
    assert file.read_bytes() == CONTENT


def test_what_is_not_there_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HTTPError):
        download(server.url + "x", tmp_path / "archive.part")
