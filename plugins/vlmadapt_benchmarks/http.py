"""A download that goes on where an earlier try stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from vlmadapt.plugin import DataError

NOTHING_BEHIND = 416
"""HTTP's answer to who asks for what is behind the end of a file."""


def download(url: str, file: Path) -> None:
    """Fetch a file, or the rest of it where a part is there and the server can.

    Args:
        url: where from.
        file: the part that is there, which grows to the whole.

    Raises:
        DataError: the connection broke; the part is kept.
        OSError: there was no answer.
    """
    have = file.stat().st_size if file.exists() else 0
    try:
        response = urlopen(Request(url, headers={"Range": f"bytes={have}-"} if have else {}))
    except HTTPError as error:
        if error.code == NOTHING_BEHIND and have:
            return
        raise
    from rich.console import Console
    from rich.progress import wrap_file

    with response:
        goes_on = response.status == 206
        rest = int(response.headers.get("Content-Length") or 0)
        whole = rest + (have if goes_on else 0)
        name = url.rpartition("/")[2]
        console = Console(stderr=True)
        with (
            file.open("ab" if goes_on else "wb") as out,
            wrap_file(response, rest, description=name, console=console, disable=not console.is_terminal) as source,
        ):
            shutil.copyfileobj(source, out)
    if rest and file.stat().st_size < whole:
        raise DataError(f"the download of {url} broke off; the same command goes on from there.")
