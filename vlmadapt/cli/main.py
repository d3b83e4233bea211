"""The command `vlmadapt`: imports only the subcommand that is called, and reports mistakes in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module

COMMANDS = {
    "fit": "train a method on a data set or a folder of images, and test it",
    "evaluate": "test a finished run again, on its own classes or on other data",
    "predict": "classify images with a finished run",
    "data": "list, check and download data sets",
    "compare": "compare methods over data sets and seeds, with the published numbers",
    "report": "write an HTML page of runs or of a comparison",
    "methods": "list installed methods",
    "backbones": "list architectures, what of them can be touched, and which methods run",
    "plugins": "list, describe and check installed plugins",
    "new": "write the package of a new method, ready to run",
}

HELP = f"""usage: vlmadapt COMMAND [options]

Few-shot adaptation of vision-language models.

commands:
{chr(10).join(f"  {name:<10}{what}" for name, what in COMMANDS.items())}

`vlmadapt COMMAND --help` shows the options of a command, `vlmadapt fit --method NAME --help` those of a method.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Exits with 0, with 2 after a user's mistake (one line on standard error), or with 130 after Ctrl-C.
    """
    from vlmadapt.errors import VlmadaptError, unknown
    from vlmadapt.runs.interrupt import Interrupted

    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help"):
        print(HELP, end="")
        return
    if given[0] == "--version":
        from importlib.metadata import version

        print(version("vlmadapt"))
        return
    try:
        if given[0] not in COMMANDS:
            raise VlmadaptError(unknown("command", given[0], COMMANDS))
        run: Callable[[list[str]], None] = import_module(f"vlmadapt.cli.{given[0]}").run
        run(given[1:])
    except VlmadaptError as error:
        _fail(f"vlmadapt: {error}", 2)
    except Interrupted as error:
        _fail(f"vlmadapt: {error}", 130)
    except KeyboardInterrupt:
        _fail("vlmadapt: stopped.", 130)
    except BrokenPipeError:
        sys.stderr.close()
    except OSError as error:
        _fail(f"vlmadapt: {error}", 2)


def _fail(message: str, code: int) -> None:
    print(message, file=sys.stderr)
    sys.exit(code)
