"""PromptKD (Li et al., CVPR 2024)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlmadapt.plugin import (
    END,
    IMAGE,
    Backbone,
    DataError,
    ForwardPass,
    Hook,
    LossTerm,
    Method,
    Recipe,
    Role,
    Task,
    TrainedRun,
    inject,
    random_tokens,
    similarity,
    trained_run,
)
from vlmadapt_multimodal.context import by_depth


@dataclass
class PromptKDConfig:
    """Options of PromptKD.

    Args:
        teacher: folder of a finished run of any method, on a backbone of any size; published: PromptSRC on
            ViT-L-14:openai. Empty for zero-shot CLIP on this run's own backbone, a much weaker teacher.
        image_tokens: number of image tokens at each depth.
        image_depth: number of depths with image tokens: at the input and before blocks 2 to `image_depth` (counted
            from 1), at most the number of blocks; published 9, between data sets 3.
        temperature: temperature of both distributions.
        weight: weight of the divergence; published 200 for fgvc_aircraft, oxford_flowers and dtd, else 1000.
    """

    teacher: str = ""
    image_tokens: int = 4
    image_depth: int = 9
    temperature: float = 1.0
    weight: float = 1000.0

    def __post_init__(self) -> None:
        """Name the teacher's folder so that it is found from any other."""
        if self.teacher:
            self.teacher = str(Path(self.teacher).expanduser().absolute())


class PromptKD(Method):
    """Prompts and a projection that imitate a larger teacher on images without labels, of all classes.

    The teacher's unit class vectors w_c are used as they are. Image tokens follow the patches and are replaced before
    each of the first blocks; with f the image feature, h two linear maps with batch norm and a rectifier between them,
    z^T the teacher's scores and s CLIP's scale:

        z_c = s n(h(f)) . w_c,    loss = weight T^2 KL(softmax(z^T / T) || softmax(z / T)) / (B C)

    with the divergence summed over a batch of B images and C classes. Scores are z for all classes.

    This is transductive: it trains on the training images of the data that are tested, without labels, and knows the
    names of all their classes, novel ones too. So do the published numbers, with all training images (`--shots 0`);
    shots are drawn per class, which takes labels to count. The teacher's labels are its own: a run is refused if its
    teacher was trained on labels of classes that are tested as unseen, or on images that are tested.

    Official code (zhengli97/PromptKD) keeps the epoch that is best on the test images of the base classes; here the
    last epoch is kept. It runs one student for each target of the cross-dataset benchmark, with a teacher of ImageNet;
    here that is a run with `--data TARGET --protocol few-shot`. It takes cosines as the teacher's scores; here they are
    what the teacher's inference router gives, which is the same for PromptSRC. Batch norm needs two images or more.
    """

    Config = PromptKDConfig
    api_version = 2
    recipe = Recipe(optimizer="sgd", lr=5e-3, epochs=20, batch_size=8)
    paper = "Li et al., PromptKD: Unsupervised Prompt Distillation for Vision-Language Models, CVPR 2024"
    touches = (IMAGE,)
    track = "transductive"
    unlabelled = True
    whole_batch = True  # for batch norm
    limitations: ClassVar[dict[str, str]] = {"one-image": "batch norm needs two images or more in a training step"}

    def build(self, backbone: Backbone, task: Task) -> None:
        """Open the teacher; create the image tokens and the projection (joint, teacher's joint).

        Raises:
            VlmadaptError: the teacher cannot be used, see `trained_run`.
        """
        c, image = self.config, backbone.image
        self.teacher: TrainedRun | None = trained_run(c.teacher, backbone) if c.teacher else None
        joint = self.teacher.joint if self.teacher else image.joint
        depth = min(c.image_depth, image.depth)
        self.tokens = nn.ParameterList(random_tokens(c.image_tokens, image.width) for _ in range(depth))
        self.project = nn.Sequential(
            nn.Linear(image.joint, joint), nn.BatchNorm1d(joint), nn.ReLU(), nn.Linear(joint, joint)
        )
        if self.teacher:
            self.register_buffer("teacher_sha256", fingerprint(self.teacher))

    @property
    def teachers(self) -> tuple[TrainedRun, ...]:
        """The teacher, if it is a run."""
        return (self.teacher,) if self.teacher else ()

    def hooks(self) -> Iterable[Hook]:
        """Image tokens at the input and before the first blocks."""
        if len(self.tokens):
            yield inject(IMAGE, by_depth(self.tokens, len(self.tokens)), at=END)

    def class_vectors(self, fwd: ForwardPass) -> Tensor:
        """The teacher's unit class vectors (classes, joint)."""
        return self.teacher.text(fwd.names) if self.teacher else fwd.zero_shot.text

    def targets(self, fwd: ForwardPass) -> Tensor:
        """The teacher's scores (B, classes)."""
        return self.teacher.scores(fwd.images, fwd.names) if self.teacher else fwd.zero_shot.logits

    def logits(self, fwd: ForwardPass) -> Tensor:
        """Scores (B, classes) of the projected image features."""

        def compute() -> Tensor:
            image = F.normalize(self.project(fwd.features(IMAGE).float()).float(), dim=-1)
            return fwd.scale * similarity(image, self.class_vectors(fwd).float())

        return fwd.once("logits", compute)

    def losses(self, fwd: ForwardPass) -> Iterable[LossTerm]:
        """The divergence from the teacher's distribution; no label is used.

        Raises:
            DataError: the batch has a single image.
        """
        if self.training and len(fwd.images) < 2:
            raise DataError("PromptKD trains on two images or more in a step; use --train.batch_size 2 or more.")
        c = self.config
        targets = F.log_softmax(self.targets(fwd).float() / c.temperature, dim=-1)
        found = F.log_softmax(self.logits(fwd) / c.temperature, dim=-1)
        divergence = F.kl_div(found, targets, reduction="sum", log_target=True) / found.numel()
        yield LossTerm("divergence", c.weight * c.temperature**2, divergence)

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """The scores, for seen and unseen classes alike."""
        return self.logits(fwd)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load a state that the same teacher has taught.

        Raises:
            DataError: the teacher in that folder is another one.
        """
        saved = state_dict.get(f"{prefix}teacher_sha256")
        if self.teacher and saved is not None and not torch.equal(saved.cpu(), fingerprint(self.teacher)):
            raise DataError(
                f"the run in '{self.teacher.folder}' is not the teacher that PromptKD was trained with; restore that "
                "one, or name its folder with --method.teacher."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)


def fingerprint(run: TrainedRun) -> Tensor:
    """SHA-256 of a run as bytes (32,)."""
    return torch.tensor(list(bytes.fromhex(run.sha256)), dtype=torch.uint8)
