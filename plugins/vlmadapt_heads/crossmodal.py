"""Cross-modal linear probe (Lin et al., CVPR 2023)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import ForwardPass, LossTerm
from vlmadapt_heads.zs_lp import ZSLP


@dataclass
class CrossModalConfig:
    """Options of the cross-modal linear probe.

    Args:
        published: mix batches as CLAP's code does; otherwise as in the paper.
    """

    published: bool = False


class Drawn(NamedTuple):
    """Which samples of a batch are texts.

    Attributes:
        is_text: (B,) whether a text takes the image's place.
        rows: (B,) index of that text among all texts, template by template.
    """

    is_text: Tensor
    rows: Tensor


class CrossModal(ZSLP):
    """A linear probe on image features and on text features, which are further samples of their classes.

    The head and its start are those of ZS-LP: z_c(v) = s n(v) . n(p_c), p_c starts as the text feature of class c. With
    image features f_i of the batch and text features t_kc, k = 1..K templates, c = 1..C classes, all unnormalised:

        loss = 1/2 mean_i CE(z(f_i), y_i) + 1/2 mean_kc CE(z(t_kc), c)

    In the paper half of each batch are images and half are texts, drawn at random; the second term is the mean over all
    draws. With `published`, as in the code of CLAP (jusiro/CLAP, `INIT CrossModal`), each sample of a batch is at
    random an image or a text. That code puts features in order template by template, and their labels class by class,
    so with several templates texts have wrong labels; `published` keeps that. Training settings are those of that code.
    """

    Config = CrossModalConfig
    paper = "Lin et al., Multimodality Helps Unimodality: Cross-Modal Few-Shot Learning, CVPR 2023"

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """Cross entropy of images and of texts."""
        if self.config.published:
            yield LossTerm("ce", 1.0, self._mixed(fwd))
            return
        templates, classes = fwd.zero_shot.template_features.shape[:2]
        labels = torch.arange(classes, device=fwd.device).repeat(templates)
        yield LossTerm("ce", 0.5, F.cross_entropy(self.scores(fwd), fwd.labels))
        yield LossTerm("text", 0.5, F.cross_entropy(self._text_scores(fwd), labels))

    def _text_scores(self, fwd: ForwardPass) -> Tensor:
        """Scores (templates * classes, classes) of all text features, template by template."""
        texts = F.normalize(fwd.zero_shot.template_features.float().flatten(0, 1), dim=-1)
        return self.logits(texts, self.prototypes, fwd.scale)

    def _mixed(self, fwd: ForwardPass) -> Tensor:
        """Cross entropy of a batch in which texts take the place of some images."""
        templates = len(fwd.zero_shot.template_features)
        scores, texts = self.scores(fwd), self._text_scores(fwd)
        drawn = self.draw(len(scores), len(texts), fwd.device)
        scores = torch.where(drawn.is_text[:, None], texts[drawn.rows], scores)
        return F.cross_entropy(scores, torch.where(drawn.is_text, drawn.rows // templates, fwd.labels))

    def draw(self, batch: int, texts: int, device: torch.device) -> Drawn:
        """Draw which samples of a batch are texts, each with probability 1/2, and which texts."""
        return Drawn(torch.rand(batch, device=device) < 0.5, torch.randint(texts, (batch,), device=device))
