"""`vlmadapt demo`."""

from __future__ import annotations

from importlib.util import find_spec

from vlmadapt.cli.parsing import add_backbone, new_parser, parse
from vlmadapt.errors import VlmadaptError
from vlmadapt.runs.run import Run

DESCRIPTION = """Open a page to try a finished run in the browser: drop pictures, see classes, probabilities and the
closest training images, and edit the class list. Only this machine can reach it unless --host says otherwise."""


def run(arguments: list[str]) -> None:
    """Parse, serve until Ctrl-C."""
    parser = new_parser("demo", DESCRIPTION)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=int, default=7860, help="port to listen at")
    add_backbone(parser)
    given = parse(parser, arguments)
    source = Run.open(given.run)
    if find_spec("gradio") is None:
        raise VlmadaptError("the demo needs Gradio: pip install 'vlmadapt[demo]'.")
    from vlmadapt.deploy.demo import serve

    serve(source, given.backbone, given.host, given.port)
