"""What an answer rests on, as a map over the image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Explanation:
    """What an answer rests on.

    Attributes:
        name: the predicted class.
        probability: its probability.
        evidence: (rows, columns) how much each place speaks for the answer, below 0 where it speaks against it. Of a
            gradient map in log-odds, of an occlusion map in probability.
        kind: 'gradient map' or 'occlusion map'.
        because: why it is not the gradient map; empty if it is one, or an occlusion map was asked for.
    """

    name: str
    probability: float
    evidence: Tensor
    kind: str
    because: str = ""
