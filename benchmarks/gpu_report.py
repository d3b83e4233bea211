"""Table and picture of what `benchmarks/gpu.py` has measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass
class StepCost:
    """Cost of a training step; what a device cannot tell is None.

    Attributes:
        mode: "eager", "captured", or "compiled", which is captured too.
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

    @property
    def case(self) -> tuple[str, int, int]:
        """What was measured."""
        return self.method, self.classes, self.batch

    @property
    def label(self) -> str:
        """The case in words."""
        return f"{self.method}\n{self.classes} classes, batch {self.batch}"


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
    """Time per step of each case, one bar for each way of stepping."""
    import matplotlib.pyplot as plt

    labels, modes = (list(dict.fromkeys(getattr(c, name) for c in costs)) for name in ("label", "mode"))
    figure, panel = plt.subplots(figsize=(7, 1 + 0.8 * len(labels)))
    for place, mode in enumerate(modes):
        mine = [c for c in costs if c.mode == mode]
        at = [labels.index(c.label) + place * 0.8 / len(modes) for c in mine]
        bars = panel.barh(at, [c.milliseconds for c in mine], height=0.75 / len(modes), label=mode)
        panel.bar_label(bars, fmt="%.1f", padding=3)
    panel.set_yticks([i + 0.4 * (1 - 1 / len(modes)) for i in range(len(labels))], labels)
    panel.invert_yaxis()
    panel.set(xlabel="ms per step", title=f"Training step, {results['backbone']}, {results['device']}")
    panel.margins(x=0.12)
    panel.legend(frameon=False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
