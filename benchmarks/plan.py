"""Cost of a training step as published code computes it and as planned, on a ViT-B/16 with random weights.

    python benchmarks/plan.py --methods mmrl,mmrl++,coop,maple --classes 100 --batch 4
    python benchmarks/plan.py --methods mmrl --classes 10,100,397,1000 --picture docs/images/plan-classes.png
    python benchmarks/plan.py --methods mmrl --first-layers 1,4,7,10,12 --picture docs/images/plan-layers.png
    python benchmarks/plan.py --methods mmrl --plans planned,planned-pack,planned-shared-prefix
    python benchmarks/plan.py --methods mmrl --classes 1000,21000 --plans planned,planned/500

`PLAN/N` takes N classes at a time (`--class_chunk N`). After ImageNet's names, classes are named by pairs of them.
Steps of the plans alternate within one run, with a matrix product between them, so that other load on the machine
affects all of them. Memory is measured in a separate process for each plan; a plan that would need more than the
machine has, extrapolated from fewer classes, is left out. FLOPs are counted by torch, attention as its matrix products.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import chain, islice, product
from pathlib import Path
from statistics import median

import open_clip
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vlmadapt import Backbone
from vlmadapt.core.build import build_method
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.method import Method, Task, total
from vlmadapt.roles import SEEN
from vlmadapt.runs.memory import peak_memory

OFFICIAL = "reference+keep-teacher+keep-text"
"""The work of published code: every layer of every token at each step, but hand-written texts once, and in testing all
texts once."""

NAMES = {OFFICIAL: "as published code"}

TESTED = 16
"""Images per batch in testing."""

Work = tuple[str, int, int, int | None]
"""Method, classes, batch size, and the first touched layer, None for the published one."""


@dataclass
class Cost:
    """Cost of a method under a plan at a number of classes; `first_layer` is None for the published one."""

    method: str
    classes: int
    batch: int
    first_layer: int | None
    plan: str
    seconds: float
    loss: float
    flops: float
    product_flops_per_second: float
    peak_bytes: int
    images_per_second: float

    @property
    def work(self) -> Work:
        """The measured work, without the plan."""
        return self.method, self.classes, self.batch, self.first_layer


class PlainTrainer:
    """One optimiser step for each loss, in one process."""

    def __init__(self, method: Method):
        self.parameters = list(method.parameters())
        self.optimizer = torch.optim.SGD(self.parameters, lr=1e-6)
        self.lr = 1e-6

    def backward_and_step(self, loss: Tensor) -> None:
        self.apply(self._backward(loss, keep_graph=False))

    def gradients(self, loss: Tensor) -> list[Tensor | None]:
        return self._backward(loss, keep_graph=True)

    def _backward(self, loss: Tensor, keep_graph: bool) -> list[Tensor | None]:
        # torch counts the operations of `backward`, not those of `autograd.grad`.
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward(retain_graph=keep_graph)
        return [parameter.grad for parameter in self.parameters]

    def apply(self, gradients: list[Tensor | None]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()


class Setup:
    """A method on ViT-B/16 geometry, ready to take steps under one plan."""

    def __init__(self, backbone: Backbone, work: Work, plan: str):
        name, classes, batch, first_layer = work
        self.names = class_names(classes)
        templates = ("a photo of a {}.",)
        options = {} if first_layer is None else {"layers": list(range(first_layer, backbone.image.depth + 1))}
        torch.manual_seed(0)
        method = build_method(name, backbone, Task(self.names, templates), options)
        name_of_plan, _, chunk = plan.partition("/")
        self.classifier = Classifier(backbone, method, templates, name_of_plan, int(chunk or 0))
        self.trainer = PlainTrainer(method)
        noise = torch.Generator().manual_seed(1)
        self.images = torch.randn(batch, 3, *backbone.image.size, generator=noise)
        self.labels = torch.arange(batch) % classes
        self.tested = torch.randn(TESTED, 3, *backbone.image.size, generator=noise)

    def step(self) -> float:
        method = self.classifier.method.train()
        fwd = self.classifier.forward(self.images, self.names, self.labels)
        return float(total(method.training_step(fwd, self.trainer)).detach())

    def score(self) -> None:
        self.classifier.scores(self.tested, self.names, SEEN)


def class_names(n: int) -> tuple[str, ...]:
    first = open_clip.IMAGENET_CLASSNAMES
    return tuple(islice(chain(first, (f"{a} {b}" for a, b in product(first, first))), n))


def random_backbone() -> Backbone:
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16", load_weights=False)
    return Backbone("ViT-B-16 with random weights", model, open_clip.get_tokenizer("ViT-B-16"))


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def counted(work: Callable[[], object]) -> float:
    """Floating-point operations of some work."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def measure(backbone: Backbone, work: Work, plans: list[str], rounds: int) -> list[Cost]:
    setups = {plan: Setup(backbone, work, plan) for plan in plans}
    for setup in setups.values():
        setup.step()  # fills the caches, which is not part of a later step
    steps: dict[str, list[float]] = {plan: [] for plan in plans}
    scores: dict[str, list[float]] = {plan: [] for plan in plans}
    rates: dict[str, list[float]] = {plan: [] for plan in plans}
    losses = {}
    for _ in range(rounds):
        for plan, setup in setups.items():
            began = time.perf_counter()
            losses[plan] = setup.step()
            steps[plan].append(time.perf_counter() - began)
            rates[plan].append(matrix_product_rate())
    for setup in setups.values():
        setup.score()  # text features are computed once after a step and then kept
    for _ in range(rounds):
        for plan, setup in setups.items():
            scores[plan].append(timed(setup.score))
    return [
        Cost(
            *work, plan, median(steps[plan]), losses[plan], counted(setup.step), median(rates[plan]),
            memory_of(work, plan), TESTED / median(scores[plan]),
        )
        for plan, setup in setups.items()
    ]  # fmt: skip


def memory_of(work: Work, plan: str) -> int:
    """Bytes that a step adds to a fresh process's peak."""
    settings = json.dumps([work, plan, torch.get_num_threads()])
    done = subprocess.run([sys.executable, __file__, "--memory", settings], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def report_memory(work: Work, plan: str, threads: int) -> None:
    torch.set_num_threads(threads)
    setup = Setup(random_backbone(), work, plan)
    before = peak_memory()
    setup.step()
    print(peak_memory() - before)


def fits(plan: str, work: Work, costs: list[Cost]) -> bool:
    """Whether the memory of a plan, extrapolated to the number of classes, is available."""
    name, classes, batch, first_layer = work
    smaller = [c for c in costs if (c.method, c.batch, c.first_layer, c.plan) == (name, batch, first_layer, plan)]
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    nearest = max(smaller, key=lambda c: c.classes, default=None)
    return nearest is None or nearest.peak_bytes * classes / nearest.classes < 0.8 * available


def matrix_product_rate() -> float:
    """FLOP/s of a product of the size that the towers are made of, best of several."""
    a, b = torch.randn(1024, 768), torch.randn(768, 3072)
    best = min(timed(lambda: a @ b) for _ in range(10))
    return 2 * 1024 * 768 * 3072 / best


def show(costs: list[Cost]) -> None:
    table = Table(title=f"ViT-B/16, float32, {torch.get_num_threads()} threads")
    for column in ("method", "classes", "batch", "from layer", "plan", "s / step", "speed-up", "GFLOP", "FLOP ratio",
                   "of product", "peak MiB", "images/s", "loss"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("method", "plan") else "right")
    for cost in costs:
        base = next(c for c in costs if c.work == cost.work)
        table.add_row(
            cost.method, str(cost.classes), str(cost.batch), str(cost.first_layer or ""),
            NAMES.get(cost.plan, cost.plan), f"{cost.seconds:.2f}",
            f"{base.seconds / cost.seconds:.2f}x", f"{cost.flops / 1e9:.0f}", f"{base.flops / cost.flops:.2f}x",
            f"{100 * cost.flops / cost.seconds / cost.product_flops_per_second:.0f} %",
            f"{cost.peak_bytes / 2**20:.0f}", f"{cost.images_per_second:.2f}", f"{cost.loss:.6f}",
        )  # fmt: skip
    Console(width=150).print(table)


def draw(costs: list[Cost], path: Path) -> None:
    """Time per step against classes or touched layers: a line for each plan, a panel for each method."""
    import matplotlib.pyplot as plt

    by_layer = any(c.first_layer for c in costs)
    methods = list(dict.fromkeys(c.method for c in costs))
    counts = sorted({c.classes for c in costs})
    figure, panels = plt.subplots(1, len(methods), figsize=(1 + 3.4 * len(methods), 3.2), sharey=True, squeeze=False)
    for panel, method in zip(panels[0], methods, strict=True):
        for plan in dict.fromkeys(c.plan for c in costs):
            mine = [c for c in costs if (c.method, c.plan) == (method, plan)]
            line = sorted((13 - (c.first_layer or 0) if by_layer else c.classes, c.seconds) for c in mine)
            panel.plot(*zip(*line, strict=True), marker="o", label=NAMES.get(plan, plan))
        panel.set(title=method, xlabel="layers touched, of 12" if by_layer else "classes")
        if not by_layer:
            panel.set(xscale="log", yscale="log")
            panel.set_xticks(counts, [str(count) for count in counts], minor=False)
            panel.set_yticks((1, 2, 5, 10, 20, 50, 100), ("1", "2", "5", "10", "20", "50", "100"))
            panel.minorticks_off()
        panel.grid(alpha=0.3)
    if by_layer:
        panels[0][0].set_ylim(0, None)
    panels[0][0].set_ylabel("seconds per step")
    panels[0][-1].legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="mmrl,mmrl++,coop,maple")
    parser.add_argument("--classes", default="100")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--first-layers", help="touched first, counted from 1, for methods with an option `layers`")
    parser.add_argument("--plans", default=f"{OFFICIAL},planned", help="the first is what the others are compared with")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/plan.json"))
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--memory", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        report_memory(*given.memory)
        return
    torch.set_num_threads(given.threads)
    layers = [int(first) for first in given.first_layers.split(",")] if given.first_layers else [None]
    backbone, costs = random_backbone(), []
    for work in product(given.methods.split(","), map(int, given.classes.split(",")), [given.batch], layers):
        plans = [plan for plan in given.plans.split(",") if fits(plan, work, costs)]
        costs += measure(backbone, work, plans, given.rounds)
        content = {"threads": given.threads, "torch": torch.__version__, "costs": [asdict(cost) for cost in costs]}
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(content, indent=2) + "\n")
    show(costs)
    if given.picture:
        draw(costs, given.picture)


if __name__ == "__main__":
    main()
