"""A local stand-in for the Hub: repositories in memory, with the part of its HTTP interface that one commit and one
download use."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Repositories = dict[str, dict[str, bytes]]


class Handler(BaseHTTPRequestHandler):
    repositories: Repositories

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != "Bearer hf_may_write":
            return self._json({"error": "Invalid username or password."}, 401)
        if self.path == "/api/repos/create":
            given = json.loads(body)
            name = f"{given['organization']}/{given['name']}"
            self.repositories.setdefault(name, {})
            return self._json({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        route = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", self.path)
        if route is None:
            return self._json({"error": f"no such route: {self.path}"}, 404)
        if route[2] == "preupload":
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self._json({"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.repositories[route[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"http://{self.headers['Host']}/{route[1]}"
        revision = self._revision(route[1])
        return self._json({"commitUrl": f"{url}/commit/{revision}", "commitOid": revision, "success": True})

    def do_GET(self) -> None:
        route = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(revision|tree)/\w+(?:\?.*)?", self.path)
        if route is None:
            return self._file()
        files = self.repositories.get(route[1])
        if files is None:
            return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if route[2] == "revision":
            return self._json({"id": route[1], "sha": self._revision(route[1]), "siblings": []})
        return self._json([
            {"type": "file", "path": name, "size": len(content), "oid": _sha1(content)}
            for name, content in files.items()
        ])  # fmt: skip

    def do_HEAD(self) -> None:
        self._file()

    def _file(self) -> None:
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/\w+/(.+)", self.path)
        content = self.repositories.get(found[1], {}).get(found[2]) if found else None
        if content is None:
            return self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        revision = self._revision(found[1]) if found else ""
        return self._answer(content, 200, {"ETag": f'"{_sha1(content)}"', "X-Repo-Commit": revision})

    def _revision(self, repository: str) -> str:
        """A hash that changes with the content, as that of a commit does."""
        files = self.repositories[repository]
        return _sha1(b"".join(name.encode() + content for name, content in sorted(files.items())))

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._answer(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, body: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _sha1(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextmanager
def hub() -> Iterator[tuple[str, Repositories]]:
    """The address of a running stand-in, and its repositories: files by name."""
    repositories: Repositories = {}
    handler = type("Bound", (Handler,), {"repositories": repositories})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", repositories
        finally:
            server.shutdown()
