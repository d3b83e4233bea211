"""Bias tuning for vlmadapt."""
