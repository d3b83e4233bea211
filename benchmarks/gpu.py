"""Training steps, testing and a whole `fit` on one GPU, in under 8 minutes.

    python benchmarks/gpu.py                                           # MMRL, CoOp, MaPLe, PromptSRC at 100 classes
    python benchmarks/gpu.py --methods mmrl --classes 1000 --batch 32
    python benchmarks/gpu.py --device cpu --backbone tiny --methods mmrl --classes 5 --steps 2 --fit-classes 3

Prints and writes, for each method: ms per step eager, captured, and captured with compiled blocks; kernels of a step;
the share of a step that the GPU works; achieved FLOP/s as a share of those of a matrix product measured in the same
run; peak memory; images per second in testing. Then the wall time of the command `fit`, start-up included, on JPEG
files of 500 x 375 pixels that it makes. Weights are random. What would start after `--seconds` is left out, and said.
On a CPU steps are eager, and kernels and the share of the GPU are unknown.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import open_clip
import torch
from accelerate import Accelerator
from data import photographs
from plan import PlainTrainer, class_names, counted
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vlmadapt.core.backbone.precision import DTYPES, fast_precision
from vlmadapt.core.build import build_method, method_class
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import load_backbone
from vlmadapt.core.method import Task, total
from vlmadapt.roles import SEEN
from vlmadapt.testing.training import OneProcess
from vlmadapt.training.capture import WARM_UP, CapturedStep
from vlmadapt.training.step import TrainingStep
from vlmadapt.training.trainer import StepTrainer

EAGER, CAPTURED, COMPILED = "eager", "captured", "captured + compiled"
TESTED = 100
"""Images per batch in testing."""
TEMPLATE = "a photo of a {}."


@dataclass
class StepCost:
    """Cost of a training step; what a device cannot tell is None.

    Attributes:
        milliseconds: per step.
        kernels: launched or replayed in a step.
        busy: share of the step in which the device works.
        flops: counted in an eager forward and backward pass.
        of_product: achieved FLOP/s by those of a matrix product in the same precision.
        peak_bytes: peak of the device's memory, weights included.
        loss: of the last step.
        note: why a step that was to be captured ran eagerly.
    """

    method: str
    classes: int
    batch: int
    precision: str
    mode: str
    milliseconds: float
    kernels: float | None
    busy: float | None
    flops: float
    of_product: float
    peak_bytes: int | None
    loss: float
    note: str


class Setup:
    """A method that takes steps as `fit` does, on images that are on the device."""

    def __init__(self, given: argparse.Namespace, backbone: str, name: str, mode: str):
        self.device = torch.device(given.device)
        loaded = load_backbone(backbone).to(self.device)
        recipe = method_class(name).recipe
        self.precision = "fp32" if self.device.type == "cpu" else given.precision or recipe.precision
        held = fast_precision(self.precision, self.device)
        if held is not None:
            loaded.hold_weights_in(held)
        if mode == COMPILED:
            loaded.compile_blocks()
        self.names = class_names(given.classes)
        torch.manual_seed(0)
        method = build_method(name, loaded, Task(self.names, (TEMPLATE,)), {})
        process = OneProcess()
        process.device = self.device
        self.trainer = StepTrainer(method, replace(recipe, precision=self.precision), cast(Accelerator, process))
        self.classifier = Classifier(loaded, method, (TEMPLATE,), precision=held)
        eager = TrainingStep(self.classifier, self.names, self.trainer)
        self.step = eager if mode == EAGER else CapturedStep(eager)
        if isinstance(self.step, CapturedStep):
            self.step.start_epoch()
        self.size = loaded.image.size
        self.images = torch.randn(given.batch, 3, *self.size, device=self.device)
        self.labels = torch.arange(given.batch, device=self.device) % given.classes
        self.steps = 0

    def take(self, count: int) -> float:
        """Take steps; the loss of the last one."""
        self.classifier.method.train()
        for _ in range(count):
            self.trainer.start_step(1e-5, 1.0, self.steps)
            loss = self.step(self.images, self.labels).loss
            self.steps += 1
        return float(loss)

    def plain(self) -> None:
        """Forward and backward pass alone, for counting."""
        method = self.classifier.method.train()
        fwd = self.classifier.forward(self.images, self.names, self.labels)
        with self.trainer.autocast():
            PlainTrainer(method).gradients(total(tuple(method.losses(fwd))))


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(device: torch.device, work: Callable[[], object]) -> float:
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def kernels(setup: Setup, steps: int) -> tuple[float, float] | None:
    """Kernels of a step, and seconds in which at least one of them runs."""
    if setup.device.type != "cuda":
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        setup.take(steps)
        synchronize(setup.device)
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in seen.events() or ()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    worked, reached = 0.0, 0.0
    for start, end in spans:
        worked += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return len(spans) / steps, worked / 1e6 / steps


def product_rate(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product, best of several."""
    size = 512 if device.type == "cpu" else 8192
    a = torch.randn(size, size, device=device, dtype=DTYPES.get(precision, torch.float32))
    return 2 * size**3 / min(seconds(device, lambda: a @ a) for _ in range(10))


def measure_step(given: argparse.Namespace, backbone: str, name: str, mode: str, known: list[StepCost]) -> StepCost:
    gc.collect()  # of the setup before
    setup = Setup(given, backbone, name, mode)
    if setup.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    setup.take(WARM_UP + 2)
    taken = seconds(setup.device, lambda: setup.take(given.steps)) / given.steps
    peak = torch.cuda.max_memory_allocated() if setup.device.type == "cuda" else None
    seen = kernels(setup, min(given.steps, 5))
    loss = setup.take(1)
    note = setup.step.reason or "" if isinstance(setup.step, CapturedStep) else ""
    # Torch does not see the operations of compiled blocks.
    flops = next((cost.flops for cost in known if cost.method == name), None) or counted(setup.plain)
    share = flops / taken / product_rate(setup.device, setup.precision)
    return StepCost(
        name, given.classes, given.batch, setup.precision, mode, 1e3 * taken, seen and seen[0],
        seen and min(seen[1] / taken, 1.0), flops, share, peak, loss, note,
    )  # fmt: skip


def measure_testing(given: argparse.Namespace, backbone: str, name: str) -> float:
    """Images per second, texts kept, images on the device."""
    setup = Setup(given, backbone, name, EAGER)
    images = torch.randn(TESTED, 3, *setup.size, device=setup.device)

    def score() -> list[Tensor]:
        return [setup.classifier.scores(images, setup.names, SEEN).argmax(-1) for _ in range(given.steps)]

    with setup.classifier.unchanged():
        score()
        return TESTED * given.steps / seconds(setup.device, score)


def measure_fit(given: argparse.Namespace, backbone: str, folder: Path) -> float:
    """Seconds of the command `fit` with a training and a test part of as many shots."""
    classes, rows = class_names(given.fit_classes), ["path,label,split"]
    (folder / "images").mkdir()
    files = photographs(folder / "images", 2 * given.shots * len(classes))
    for number, example in enumerate(files):
        part = "train" if number // len(classes) < given.shots else "test"
        rows.append(f'"{example.path}","{classes[number % len(classes)]}",{part}')
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    command = [
        sys.executable, "-m", "vlmadapt", "fit", "--method", given.methods.split(",")[0], "--backbone", backbone,
        "--data", str(folder / "images.csv"), "--shots", str(given.shots), "--out", str(folder / "run"),
        "--augment", given.augment,
    ]  # fmt: skip
    if given.fit_epochs:
        command += ["--train.epochs", str(given.fit_epochs)]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if given.device == "cpu" else {}
    began = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **hidden}, stdout=sys.stderr)
    return time.perf_counter() - began


def random_weights(architecture: str, folder: Path) -> str:
    """A backbone with random weights, as `--backbone` takes it."""
    if architecture == "tiny":
        return architecture
    torch.manual_seed(0)
    model = open_clip.create_model(architecture, load_weights=False)
    save_file(model.state_dict(), folder / "weights.safetensors")
    return f"{architecture}:{folder / 'weights.safetensors'}"


def card(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads, {platform.machine()}"


def show(results: dict[str, object], costs: list[StepCost]) -> None:
    table = Table(title=f"{results['device']}, torch {results['torch']}, {results['backbone']} with random weights")
    for column in ("method", "classes", "batch", "precision", "step", "ms", "kernels", "GPU works", "of a product",
                   "peak MiB", "loss"):  # fmt: skip
        table.add_column(column, justify="left" if column in ("method", "step") else "right")
    for cost in costs:
        table.add_row(
            cost.method, str(cost.classes), str(cost.batch), cost.precision, cost.mode, f"{cost.milliseconds:.2f}",
            "" if cost.kernels is None else f"{cost.kernels:.0f}", "" if cost.busy is None else f"{cost.busy:.0%}",
            f"{cost.of_product:.1%}", "" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**20:.0f}",
            f"{cost.loss:.4f}",
        )  # fmt: skip
    console = Console(width=130)
    console.print(table)
    for cost in costs:
        if cost.note:
            console.print(f"{cost.method}, {cost.mode}: ran eagerly, {cost.note}.")
    for name in ("test_images_per_second", "fit_seconds", "left_out"):
        if results[name]:
            console.print(f"{name.replace('_', ' ')}: {results[name]}")


def draw(results: dict[str, object], costs: list[StepCost], path: Path) -> None:
    """Time per step of each method, one bar for each way of stepping."""
    import matplotlib.pyplot as plt

    methods, modes = (list(dict.fromkeys(getattr(c, name) for c in costs)) for name in ("method", "mode"))
    figure, panel = plt.subplots(figsize=(7, 1 + 0.8 * len(methods)))
    for place, mode in enumerate(modes):
        mine = [c for c in costs if c.mode == mode]
        at = [methods.index(c.method) + place * 0.8 / len(modes) for c in mine]
        bars = panel.barh(at, [c.milliseconds for c in mine], height=0.75 / len(modes), label=mode)
        panel.bar_label(bars, fmt="%.1f", padding=3)
    panel.set_yticks([i + 0.4 * (1 - 1 / len(modes)) for i in range(len(methods))], methods)
    panel.invert_yaxis()
    panel.set(xlabel="ms per step", title=f"{results['device']}, {costs[0].classes} classes, batch {costs[0].batch}")
    panel.margins(x=0.12)
    panel.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    given = arguments()
    began = time.perf_counter()
    device = torch.device(given.device)
    modes = [EAGER, CAPTURED, COMPILED] if device.type == "cuda" else [EAGER]
    costs: list[StepCost] = []
    tested: dict[str, float] = {}
    left_out: list[str] = []
    results: dict[str, object] = {
        "device": card(device), "torch": torch.__version__, "backbone": given.backbone, "seconds": given.seconds,
        "fit": f"{given.fit_classes} classes, {given.shots} shots, --augment {given.augment}", "fit_seconds": None,
        "test_images_per_second": tested, "left_out": left_out,
    }  # fmt: skip

    def attempt(what: str, work: Callable[[], None]) -> None:
        """Do some work if there is time, and write what is known so far."""
        if time.perf_counter() - began > given.seconds:
            left_out.append(what)
            return
        work()
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps({**results, "steps": [asdict(cost) for cost in costs]}, indent=2) + "\n")

    def step(name: str, mode: str, backbone: str) -> None:
        attempt(f"{name}, {mode}", lambda: costs.append(measure_step(given, backbone, name, mode, costs)))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        backbone = random_weights(given.backbone, folder)
        methods = given.methods.split(",")
        for mode in modes[:2]:
            for name in methods:
                step(name, mode, backbone)
        for name in methods:
            attempt(f"testing {name}", lambda n=name: tested.update({n: measure_testing(given, backbone, n)}))
        attempt("fit", lambda: results.update(fit_seconds=measure_fit(given, backbone, folder)))
        for mode in modes[2:]:  # compiling takes longest
            for name in methods:
                step(name, mode, backbone)
    show(results, costs)
    draw(results, costs, given.picture)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", default="mmrl,coop,maple,promptsrc", help="methods that need no support set; `fit` runs the first"
    )
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], help="by default that of each method's recipe")
    parser.add_argument("--steps", type=int, default=50, help="steps that are timed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backbone", default="ViT-B-16", help="architecture of open_clip, or tiny")
    parser.add_argument("--fit-classes", type=int, default=100)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--fit-epochs", type=int, default=0, help="by default those of the recipe")
    parser.add_argument("--augment", choices=["host", "device"], default="host", help="of `fit`")
    parser.add_argument("--seconds", type=float, default=360.0, help="nothing is started after them")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu.json"))
    parser.add_argument("--picture", type=Path, default=Path("benchmarks/results/gpu.png"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
