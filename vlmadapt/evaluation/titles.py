"""Titles of accuracies in tables and charts."""

from __future__ import annotations

TITLES = {
    "base": ("base (seen)", "base"),
    "novel": ("novel (unseen)", "novel"),
    "harmonic_mean": ("harmonic mean", "HM"),
    "all": ("all classes", "all classes"),
    "target_average": ("average of targets", "average of targets"),
}
"""Long and short title of each accuracy in a run's result; data sets are their own title."""
BASELINES = {"chance": "chance", "zero_shot": "zero-shot"}
"""Titles of what a run's accuracies are compared with: guessing, and the frozen backbone."""


def metric_title(name: str) -> str:
    """Title of an accuracy where there is room."""
    return TITLES[name][0] if name in TITLES else name


def short_title(name: str) -> str:
    """Title of an accuracy as the head of a column."""
    return TITLES[name][1] if name in TITLES else name
