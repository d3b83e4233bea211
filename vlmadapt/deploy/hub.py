"""Share a run on the Hugging Face Hub: the adapter, a description that loads it, and a model card."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from vlmadapt.core.adapter import CONFIG, WEIGHTS, read_config
from vlmadapt.core.build import method_class
from vlmadapt.data.load import short_name
from vlmadapt.deploy.card import Card, model_card
from vlmadapt.errors import VlmadaptError
from vlmadapt.evaluation.predict import trained_and_known_classes
from vlmadapt.evaluation.shared import DESCRIPTION, HUB
from vlmadapt.files import write_json, write_text
from vlmadapt.runs.run import Run
from vlmadapt.text import first_line

SHARED = ("method", "data", "data_sha256", "protocol", "shots", "seed", "backbone", "trainable_parameters", "accuracy",
          "chance", "zero_shot", "groups")  # fmt: skip
"""Parts of a run's result that are shared; none of them has a file name."""


def push(run: Run, repository: str, *, private: bool = False, licence: str | None = None) -> str:
    """Upload a finished run as one commit; the token is that of `hf auth login` or of $HF_TOKEN.

    Args:
        run: finished run.
        repository: OWNER/NAME, made if it does not exist.
        private: make the repository private.
        licence: identifier of the adapter's licence, as the Hub knows it.

    Returns:
        Address of the repository.

    Raises:
        VlmadaptError: the run is not finished, or the Hub refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    with _staged(run, repository, licence) as folder:
        try:
            api = HfApi()
            address = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload a run of vlmadapt")
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
            raise VlmadaptError(
                f"'{repository}' cannot be written to: {first_line(error).rstrip('.')}. Log in with `hf auth login`, "
                "or set $HF_TOKEN to a token that may write."
            ) from error
    return str(address)


def stage(run: Run, folder: Path, repository: str, licence: str | None = None) -> None:
    """Write the files that `push` uploads.

    Raises:
        VlmadaptError: the run is not finished.
    """
    result = run.result()
    if result is None:
        raise VlmadaptError(f"'{run.folder}' is not finished; `vlmadapt fit --resume {run.folder}` goes on with it.")
    config = read_config(run.adapter)
    trained, known = trained_and_known_classes(run)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(run.adapter / name, folder / name)
    shared = {name: result[name] for name in SHARED if name in result} | {"data": short_name(result["data"])}
    description = {"format": 1, "classes": known, "trained": trained, "result": shared}
    if (calibration := run.calibration()) is not None:
        description["calibration"] = calibration
    write_json(folder / DESCRIPTION, description)
    paper = method_class(config.method).paper
    weights: str = config.backbone["sha256"]
    write_text(folder / "README.md", model_card(Card(repository, licence, paper, weights, trained, shared)))


@contextmanager
def _staged(run: Run, repository: str, licence: str | None) -> Iterator[Path]:
    with TemporaryDirectory(prefix="vlmadapt-") as name:
        stage(run, Path(name), repository, licence)
        yield Path(name)


def loading_name(repository: str) -> str:
    """Name that `load` and `vlmadapt predict` take."""
    return f"{HUB}{repository}"
