"""Results reported in the MMRL paper (Guo & Gu, CVPR 2025) for MMRL and the methods it is compared with."""

from __future__ import annotations

from vlmadapt_published.tables import mmrl_paper

__all__ = ["mmrl_paper"]
