"""How the names of the official code read in this library, one module for each official method.

A module here has `official()`, which returns an `Official`, and either `TRAINER`, the name of the official trainer's
file, or `METHOD`, the name of the method in its oracles, where several share a file.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from tests.parity.official.names import Official

BY_TRAINER: dict[str, Official] = {}
"""By the name of the official trainer's file."""

BY_METHOD: dict[str, Official] = {}
"""By the name of the method."""

for found in pkgutil.iter_modules(__path__):
    module = import_module(f"{__name__}.{found.name}")
    if hasattr(module, "TRAINER"):
        BY_TRAINER[module.TRAINER] = module.official()
    if hasattr(module, "METHOD"):
        BY_METHOD[module.METHOD] = module.official()


def official_of(method: str, trainer: str) -> Official | None:
    """The official code of an oracle; its method may be called after a setting of it, such as `gda_b2n_alpha`."""
    names = [name for name in BY_METHOD if f"{method}_".startswith(f"{name}_")]
    return BY_METHOD[max(names, key=len)] if names else BY_TRAINER.get(trainer)
