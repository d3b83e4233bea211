"""Published results: the MMRL paper's tables, reruns by third parties, and what published numbers knew of the test."""

from __future__ import annotations

from vlmadapt_published.leaks import known_leaks
from vlmadapt_published.reruns import alignednorm_reruns
from vlmadapt_published.tables import mmrl_paper

__all__ = ["alignednorm_reruns", "known_leaks", "mmrl_paper"]
