"""Training steps, testing and a whole `fit` on one GPU, in about 4 minutes.

    python benchmarks/gpu.py                                           # the table of docs/performance.md
    python benchmarks/gpu.py --cases mmrl:1000:32 --modes captured     # METHOD:CLASSES:BATCH
    python benchmarks/gpu.py --device cpu --backbone tiny --cases mmrl:5:4 --steps 2 --fit-classes 3

Prints and writes, for each case: ms per step eager, captured, and captured with compiled blocks; kernels of a step; the
share of a step that the GPU works; achieved FLOP/s as a share of those of a matrix product measured in the same run;
peak memory; images per second in testing. Then the wall time of the command `fit`, start-up included, on JPEG files of
500 x 375 pixels that it makes. Weights are random. What would start after `--seconds` is left out, and said. On a CPU
steps are eager, and kernels and the share of the GPU are unknown.
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
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

import open_clip
import torch
from accelerate import Accelerator
from data import photographs
from gpu_report import StepCost, draw, show
from plan import PlainTrainer, class_names, counted
from safetensors.torch import save_file
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from vlmadapt.core.backbone.precision import DTYPES, fast_precision
from vlmadapt.core.build import build_method, method_class
from vlmadapt.core.captured_scores import scorer
from vlmadapt.core.classifier import Classifier
from vlmadapt.core.loading import load_backbone
from vlmadapt.core.method import Task, total
from vlmadapt.roles import SEEN
from vlmadapt.testing.training import OneProcess
from vlmadapt.training.capture import WARM_UP, CapturedStep
from vlmadapt.training.step import TrainingStep
from vlmadapt.training.trainer import StepTrainer

EAGER, CAPTURED, COMPILED = MODES = "eager", "captured", "compiled"
"""How steps run; compiled ones are captured too."""
TESTED = 100
"""Images per batch in testing."""
TEMPLATE = "a photo of a {}."

T = TypeVar("T")


class Case(NamedTuple):
    """What is measured."""

    method: str
    classes: int
    batch: int

    @classmethod
    def parse(cls, text: str) -> Case:
        """From METHOD:CLASSES:BATCH."""
        method, classes, batch = text.split(":")
        return cls(method, int(classes), int(batch))


CASES = [
    Case("mmrl", 100, 4),
    Case("mmrl++", 100, 4),
    Case("coop", 100, 32),
    Case("maple", 100, 4),
    Case("promptsrc", 100, 4),
    Case("mmrl", 1000, 32),
    Case("coop", 1000, 32),
]


class Setup:
    """A method that takes steps as `fit` does, on images that are on the device."""

    def __init__(self, given: argparse.Namespace, backbone: str, case: Case, mode: str):
        self.device = torch.device(given.device)
        loaded = load_backbone(backbone).to(self.device)
        recipe = method_class(case.method).recipe
        self.precision = "fp32" if self.device.type == "cpu" else given.precision
        held = fast_precision(self.precision, self.device)
        if held is not None:
            loaded.hold_weights_in(held)
        if mode == COMPILED:
            loaded.compile_blocks()
        self.names = class_names(case.classes)
        torch.manual_seed(0)
        method = build_method(case.method, loaded, Task(self.names, (TEMPLATE,)), {})
        process = OneProcess()
        process.device = self.device
        self.trainer = StepTrainer(method, replace(recipe, precision=self.precision), cast(Accelerator, process))
        self.classifier = Classifier(loaded, method, (TEMPLATE,), precision=held)
        eager = TrainingStep(self.classifier, self.names, self.trainer)
        self.step = eager if mode == EAGER else CapturedStep(eager)
        if isinstance(self.step, CapturedStep):
            self.step.start_epoch()
        self.size = loaded.image.size
        self.images = torch.randn(case.batch, 3, *self.size, device=self.device)
        self.labels = torch.arange(case.batch, device=self.device) % case.classes
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


def measure_step(given: argparse.Namespace, backbone: str, case: Case, mode: str, known: list[StepCost]) -> StepCost:
    gc.collect()  # of the setup before
    setup = Setup(given, backbone, case, mode)
    if setup.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    setup.take(WARM_UP + 2)
    taken = seconds(setup.device, lambda: setup.take(given.steps)) / given.steps
    peak = torch.cuda.max_memory_allocated() if setup.device.type == "cuda" else None
    seen = kernels(setup, min(given.steps, 5))
    loss = setup.take(1)
    note = setup.step.reason or "" if isinstance(setup.step, CapturedStep) else ""
    # Torch does not see the operations of compiled blocks.
    flops = next((cost.flops for cost in known if cost.case == case), None) or counted(setup.plain)
    share = flops / taken / product_rate(setup.device, setup.precision)
    return StepCost(
        *case, setup.precision, mode, 1e3 * taken, seen and seen[0], seen and min(seen[1] / taken, 1.0), flops, share,
        peak, loss, note,
    )  # fmt: skip


def measure_testing(given: argparse.Namespace, backbone: str, case: Case) -> float:
    """Images per second, texts kept, images on the device."""
    setup = Setup(given, backbone, case, EAGER)
    images = torch.randn(TESTED, 3, *setup.size, device=setup.device)
    scores = scorer(setup.classifier, setup.names, SEEN)

    def score() -> list[Tensor]:
        return [scores(images).argmax(-1) for _ in range(given.steps)]

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
        sys.executable, "-m", "vlmadapt", "fit", "--method", given.cases[0].method, "--backbone", backbone,
        "--data", str(folder / "images.csv"), "--shots", str(given.shots), "--out", str(folder / "run"),
        "--augment", given.augment, "--train.precision", "fp32" if given.device == "cpu" else given.precision,
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


def main() -> None:
    given = arguments()
    began = time.perf_counter()
    device = torch.device(given.device)
    modes = given.modes if device.type == "cuda" else [EAGER]
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

    def step(case: Case, mode: str, backbone: str) -> None:
        attempt(f"{case}, {mode}", lambda: costs.append(measure_step(given, backbone, case, mode, costs)))

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        backbone = random_weights(given.backbone, folder)
        for mode in (mode for mode in modes if mode != COMPILED):
            for case in given.cases:
                step(case, mode, backbone)
        for name, case in {case.method: case for case in reversed(given.cases)}.items():
            attempt(f"testing {name}", lambda n=name, c=case: tested.update({n: measure_testing(given, backbone, c)}))
        attempt("fit", lambda: results.update(fit_seconds=measure_fit(given, backbone, folder)))
        for case in given.cases if COMPILED in modes else []:  # compiling takes longest
            step(case, COMPILED, backbone)
    show(results, costs)
    draw(results, costs, given.picture)


def _listed(parse: Callable[[str], T]) -> Callable[[str], list[T]]:
    return lambda text: [parse(word) for word in text.split(",")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=_listed(Case.parse), default=CASES, help="`fit` runs the first one's method")
    parser.add_argument("--modes", type=_listed(str), default=list(MODES))
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp16", help="on a GPU")
    parser.add_argument("--steps", type=int, default=50, help="steps that are timed")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backbone", default="ViT-B-16-quickgelu", help="architecture of open_clip, or tiny")
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
