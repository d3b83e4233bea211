"""Numbers that the MMRL paper (Guo & Gu, CVPR 2025) reports for itself and for the methods it compares with."""

from __future__ import annotations

from vlmadapt_published.tables import mmrl_paper

__all__ = ["mmrl_paper"]
