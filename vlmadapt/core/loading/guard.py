"""Other libraries while they load a model: their errors become one sentence, and they are silent."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

from vlmadapt.errors import BackboneError, VlmadaptError


@contextmanager
def as_backbone_errors(spec: str) -> Iterator[None]:
    """Say of any error that the backbone cannot be loaded, and why."""
    try:
        yield
    except VlmadaptError:
        raise
    except UnpicklingError as error:
        raise BackboneError(
            f"the backbone '{spec}' cannot be loaded: its file is damaged or holds more than tensors, and unpickling "
            "that may run any code; save its state dict alone, best as safetensors."
        ) from error
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise BackboneError(f"the backbone '{spec}' cannot be loaded: {said[:300]}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings: they concern training a model, not a frozen one."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
