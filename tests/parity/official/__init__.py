"""How the names of the official code read in this library, one module for each official method.

A module here has `official()`, which returns an `Official`, and either `TRAINER`, the name of the official trainer's
file, or `METHOD`, the name of the method in its oracles, where several share a file.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from tests.parity.official.names import Official

OFFICIAL: dict[str, Official] = {}
"""By the name of the official trainer's file, or of the method."""

for found in pkgutil.iter_modules(__path__):
    module = import_module(f"{__name__}.{found.name}")
    for key in ("TRAINER", "METHOD"):
        if hasattr(module, key):
            OFFICIAL[getattr(module, key)] = module.official()
