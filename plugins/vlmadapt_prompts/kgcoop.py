"""KgCoOp (Yao et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from vlmadapt.plugin import ForwardPass, Hook, LossTerm, Recipe, cosine_distance, teacher
from vlmadapt_prompts.coop import CoOp, CoOpConfig


@dataclass
class KgCoOpConfig(CoOpConfig):
    """Options of KgCoOp, in addition to those of CoOp.

    Args:
        tokens: length of the learned context; ignored if `words` is given.
        words: words whose embeddings initialise the context, in the published code always 'a photo of a'; empty for
            random initialisation.
        weight: weight lambda of the distance to the features of the hand-written prompts.
        distance: `cosine` is 1 - cos, as in the published code; `squared` is the paper's squared distance of unit
            features, which is twice as large and needs weight 4 for the same loss.
        teacher: template of the hand-written prompts; by default the data set's.
    """

    tokens: int = 4
    words: str = "a photo of a"
    weight: float = 8.0
    distance: Literal["cosine", "squared"] = "cosine"
    teacher: str = ""


class KgCoOp(CoOp):
    """Knowledge-guided Context Optimization: CoOp with text features regularised towards hand-written prompts.

        loss = CE(z, y) + lambda mean_i (1 - cos(w_i, w_i^0))

    over the classes i of the task, with w_i^0 the frozen feature of a hand-written prompt. The paper has the squared
    distance |n(w_i) - n(w_i^0)|^2 = 2 (1 - cos), so its lambda of 8 acts as 4 in the released code
    (htyao89/KgCoOp); the additional layers of that code never receive a gradient and are omitted here.
    """

    Config = KgCoOpConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=2e-3, epochs=100, batch_size=128)
    paper = "Yao et al., Visual-Language Prompt Tuning with Knowledge-guided Context Optimization, CVPR 2023"

    def hooks(self) -> Iterable[Hook]:
        """CoOp's context, and the template of the frozen text features."""
        yield from super().hooks()
        if self.config.teacher:
            yield teacher(self.config.teacher)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy, and the distance to the frozen text features."""
        yield from super().losses(fwd)
        distance = cosine_distance(fwd.text(), fwd.zero_shot.text)
        yield LossTerm("text", self.config.weight, distance if self.config.distance == "cosine" else 2 * distance)
