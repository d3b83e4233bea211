"""How the names of the official code read in this library, one module for each official trainer.

A module here has `TRAINER`, the name of the official trainer's file, and `official()`, which returns an `Official`.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from tests.parity.official.names import Official

OFFICIAL: dict[str, Official] = {}
"""By the name of the official trainer's file."""

for found in pkgutil.iter_modules(__path__):
    module = import_module(f"{__name__}.{found.name}")
    if hasattr(module, "TRAINER"):
        OFFICIAL[module.TRAINER] = module.official()
