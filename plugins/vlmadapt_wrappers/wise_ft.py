"""WiSE-FT (Wortsman et al., CVPR 2022): the mean of start and trained parameters, around any method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vlmadapt.plugin import Backbone, DataError, Support, Task, Wrapper, WrapperConfig, assign


@dataclass
class WiSEFTConfig(WrapperConfig):
    """Options of WiSE-FT.

    Args:
        wraps: registered name of the method whose parameters are averaged.
        options: options of that method; missing ones keep their published values.
        alpha: weight of the trained parameters, from 0 (as they started) to 1 (as they were trained); `evaluate RUN
            --method.alpha VALUE` tests a trained run with another one.
    """

    wraps: str = "prolip"
    alpha: float = 0.5


class WiSEFT(Wrapper):
    """Interpolation of a method's parameters between where they start and where training takes them.

    With theta_0 the parameters before training and theta_1 after it, predictions are made with

        theta = (1 - alpha) theta_0 + alpha theta_1.

    Published for CLIP's own weights, which is what `prolip` (the image projection) and `2sfs` and `mail` (norms) train;
    theta_0 then is zero-shot CLIP. Around a method with parameters of its own (prompts, low-rank factors) it is the
    same mean of those, whose start need not be zero-shot CLIP. Official code (mlfoundations/wise-ft) averages all
    weights of the image encoder and of a linear classifier that starts at the text features.
    """

    Config = WiSEFTConfig
    api_version = 2
    paper = "Wortsman et al., Robust Fine-tuning of Zero-shot Models, CVPR 2022"

    mixed: Tensor

    def build(self, backbone: Backbone, task: Task) -> None:
        """Build the inner method, with two copies of its parameters: before and after training.

        Raises:
            DataError: alpha is not from 0 to 1.
        """
        if not 0 <= self.config.alpha <= 1:
            raise DataError(f"alpha is {self.config.alpha}; it is from 0 to 1.")
        super().build(backbone, task)
        self.start, self.trained = (copies(self.inner) for _ in range(2))
        # The alpha in the inner method's parameters, in millionths; -1 before they are averaged.
        self.register_buffer("mixed", torch.tensor(-1))
        self.register_load_state_dict_post_hook(mix_again)

    def prepare(self, support: Support) -> None:
        """Prepare the inner method and note where its parameters start."""
        super().prepare(support)
        for start, parameter in zip(self.start, trainable(self.inner), strict=True):
            assign(start, parameter)

    def finish(self, support: Support) -> None:
        """Finish the inner method and average its parameters."""
        super().finish(support)
        for trained, parameter in zip(self.trained, trainable(self.inner), strict=True):
            assign(trained, parameter)
        self.mix()

    def mix(self) -> None:
        """Set the inner method's parameters to the mean of their copies."""
        alpha = self.config.alpha
        with torch.no_grad():
            for parameter, start, trained in zip(trainable(self.inner), self.start, self.trained, strict=True):
                parameter.copy_((1 - alpha) * start + alpha * trained)
        self.mixed.fill_(millionths(alpha))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Load copies of any size."""
        for name, parameter in self.named_parameters():
            if name.startswith(("start.", "trained.")) and prefix + name in state_dict:
                assign(parameter, torch.zeros_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)


def mix_again(method: WiSEFT, keys: Any) -> None:
    """Average again after loading a state that was averaged with another alpha."""
    if 0 <= int(method.mixed) != millionths(method.config.alpha):
        method.mix()


def millionths(alpha: float) -> int:
    """A share as a whole number, which a file keeps exactly."""
    return round(alpha * 1_000_000)


def trainable(method: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in method.parameters() if parameter.requires_grad]


def copies(method: nn.Module) -> nn.ParameterList:
    """Copies of the trainable parameters, themselves not trained."""
    return nn.ParameterList(
        [nn.Parameter(parameter.detach().clone(), requires_grad=False) for parameter in trainable(method)]
    )
