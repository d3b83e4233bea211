"""A method on a backbone, ready to answer for lists of classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vlmadapt.core.backbone import Backbone
from vlmadapt.core.engine import Engine
from vlmadapt.core.forward import ForwardPass
from vlmadapt.core.method import Method
from vlmadapt.core.plan import Optimizations, derive
from vlmadapt.core.templates import Template
from vlmadapt.roles import Role


class Classifier:
    """What training and evaluation share: a backbone, a method, the templates and the plan.

    Attributes:
        backbone: frozen.
        method: holds everything that is trained.
        templates: texts that describe a class, for methods and zero-shot branches that use the data set's.

    Raises:
        BackboneError: the method declares what this backbone does not have.
    """

    def __init__(
        self, backbone: Backbone, method: Method, templates: Sequence[str], plan: str = "planned", class_chunk: int = 0
    ):
        self.backbone = backbone
        self.method = method
        self.templates = tuple(Template.parse(text) for text in templates)
        self._plan = plan, class_chunk
        self._engine = Engine(backbone, Optimizations.named(plan), class_chunk)
        derive(method.hooks(), backbone, self.templates)

    def with_templates(self, templates: Sequence[str]) -> Classifier:
        """The same method for classes that are described otherwise."""
        return Classifier(self.backbone, self.method, templates, *self._plan)

    @property
    def device(self) -> torch.device:
        """Where the computation runs."""
        return self.backbone.device

    def forward(self, images: Tensor, names: Sequence[str], labels: Tensor | None = None) -> ForwardPass:
        """A forward pass of images (B, 3, H, W) against classes."""
        return ForwardPass(self._engine, self.method, names, self.templates, images, labels)

    @torch.inference_mode()
    def scores(self, images: Tensor, names: Sequence[str], role: Role) -> Tensor:
        """The router's scores (B, classes) for classes of a role, in inference mode: nothing can be trained on them."""
        self.method.eval()
        return self.method.route(self.forward(images, names), role).float()
