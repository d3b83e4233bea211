"""The command `vlmadapt`: imports only the subcommand that is called, and reports mistakes in one line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

COMMANDS = {
    "fit": "train a method on a data set or a folder of images, and test it",
    "evaluate": "test a finished run again, on its own classes or on other data",
    "predict": "classify images with a finished run",
    "merge": "write an open_clip checkpoint with a finished run's adapter in its weights",
    "export": "write a finished run as an ONNX, TorchScript or torch.export model",
    "demo": "open a page to try a finished run in the browser",
    "push": "share a finished run on the Hugging Face Hub",
    "describe": "write sentences that describe your classes, for methods that read them",
    "data": "list, check and download data sets",
    "compare": "compare methods over data sets and seeds, with the published numbers",
    "report": "write an HTML page of runs or of a comparison",
    "methods": "list installed methods",
    "backbones": "list architectures, what of them can be touched, and which methods run",
    "plugins": "list, describe and check installed plugins",
    "new": "write the package of a new method, data set or backbone, ready to run",
}

HELP = f"""usage: vlmadapt COMMAND [options]

Few-shot adaptation of vision-language models.

commands:
{chr(10).join(f"  {name:<10}{what}" for name, what in COMMANDS.items())}

`vlmadapt COMMAND --help` shows the options of a command, `vlmadapt fit --method NAME --help` those of a method.
`vlmadapt --version --json` prints versions, device and plugins, for bug reports.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0, with 2 after a user's mistake (one line on standard error), with 130 after Ctrl-C and after any signal
    that stopped training with everything saved, and with 128 + n after another signal n.
    """
    from vlmadapt.runs.interrupt import Interrupted, Terminated, ended_by_signals

    try:
        with ended_by_signals(), _plain_warnings():
            _main(arguments)
    except Interrupted as error:
        _fail(f"vlmadapt: {error}", 130)
    except Terminated as error:
        _fail(f"vlmadapt: {error}.", 128 + error.number)
    except KeyboardInterrupt:
        _fail("vlmadapt: stopped.", 130)


def _main(arguments: Sequence[str] | None) -> None:
    from vlmadapt.errors import VlmadaptError, unknown

    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    try:
        if given[0] == "--version":
            from vlmadapt.cli import version

            version.run(given[1:])
            return
        if given[0] not in COMMANDS:
            raise VlmadaptError(unknown("command", given[0], COMMANDS))
        run: Callable[[list[str]], None] = import_module(f"vlmadapt.cli.{given[0]}").run
        run(given[1:])
    except VlmadaptError as error:
        _fail(f"vlmadapt: {error}", 2)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        _fail(f"vlmadapt: {error}", 2)


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print vlmadapt's own warnings as one line, without the file and the line of code that Python adds."""
    from vlmadapt.errors import VlmadaptWarning

    python_format = warnings.formatwarning

    def formatted(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if issubclass(category, VlmadaptWarning):
            return f"vlmadapt: {message}\n"
        return python_format(message, category, filename, lineno, line)

    warnings.formatwarning = formatted
    try:
        yield
    finally:
        warnings.formatwarning = python_format


def _fail(message: str, code: int) -> None:
    print(message.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)  # names may not be text
    sys.exit(code)
