"""The embedded head-to-head: every registered method on the data set and backbone that come with the package.

    python benchmarks/embedded.py                    # docs/embedded.md, its picture, and the table in the README
    python benchmarks/embedded.py --methods clip,coop --seeds 1 --docs /tmp/style --readme ''            # just a style

Each method is trained twice for each seed: on the base classes, and on all classes. Protocols that train alike share
these runs: what was trained on the base classes is tested on them and the novel ones, on all of them together, and in
the other style; what was trained on all classes is tested on them and, for domain generalisation, in the other style.
Runs are kept in `--out`; an interrupted benchmark goes on from there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import torch

from vlmadapt import evaluate, registry
from vlmadapt.compare.aggregate import HARMONIC, MeanStd, ResultRow, main_metric
from vlmadapt.compare.compare import Results, compare
from vlmadapt.compare.formats import markdown
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.sentences import statistics_lines
from vlmadapt.compare.settings import CompareSettings
from vlmadapt.compare.tables import Table, mean_std_text
from vlmadapt.core.build import method_class
from vlmadapt.data.splits import Protocol
from vlmadapt.files import write_json
from vlmadapt.report.charts import dots
from vlmadapt.report.style import series_styles, to_png

REFERENCE, OTHER_STYLE = "clip", "openmoji-outline"
Found = tuple[Comparison, Results]


@dataclass(frozen=True)
class Test:
    """Another way to test finished runs; the arguments are those of `vlmadapt.evaluate`."""

    data: str | None = None
    protocol: Protocol | None = None
    role: str | None = None

    def key(self, folder: Path) -> str:
        return f"{folder.name} {self.data} {self.protocol} {self.role}"

    def numbers(self, folder: Path) -> dict[str, float]:
        return evaluate(folder, data=self.data, protocol=self.protocol, role=self.role)[1]

    def of(self, method: str) -> Test:
        """As it can be asked of a method: none that knows its training classes alone answers for unseen ones."""
        return replace(self, role=None) if bound(method) else self


TOGETHER = Test(protocol="all-classes")
IN_OUTLINE = Test(OTHER_STYLE, "base-to-novel")
SHIFTED = Test(OTHER_STYLE, role="unseen")

TESTED_OTHERWISE: dict[Protocol, dict[str, tuple[Test, str]]] = {
    "base-to-novel": {
        "all classes, roles unknown": (TOGETHER, "all"),
        "outline, base": (IN_OUTLINE, "base"),
        "outline, novel": (IN_OUTLINE, "novel"),
        "outline, HM": (IN_OUTLINE, HARMONIC),
    },
    "few-shot": {"outline": (SHIFTED, OTHER_STYLE)},
}
"""By the protocol that was trained for: column -> the test, and which of its numbers."""

PAGE = """# Embedded head-to-head

Written by `{command}`, never by hand. It compares all methods on the {data} data set with the `{backbone}` backbone
([what these are and what they cannot do](tiny-clip.md)). It shows that the methods run and what they cost beside each
other; which method is better on real backbones and data it cannot show. {budget} Published budgets differ by a factor
of eighty, so this one suits some better than others: a method that was published for hundreds of passes is seen at its
start.

![Harmonic mean of each method](images/embedded.png)

## Trained on the base classes

{base_to_novel}
What can be said of it:

{statistics}

The same runs, tested on all classes together without telling the method which it was trained on (all-classes), and on
the same things in another style, outlines without colour:

{transferred}
## Trained on all classes

Methods that know their training classes alone are here too.

{few_shot}
The same runs on the outlines (domain-generalization); as in published code the classes of another style are answered
as unseen ones, but for those methods that have no answer for them:

{shifted}"""

IN_README = re.compile(r"(<!-- embedded -->\n).*(<!-- end of embedded -->)", re.DOTALL)


def main() -> None:
    began = time.monotonic()
    given = parse()
    registered = [plugin.name for plugin in registry.plugins(registry.METHODS)]
    methods = given.methods.split(",") if given.methods else sorted(registered, key=lambda name: name != REFERENCE)
    found: dict[Protocol, Found] = {
        "base-to-novel": run(given, [m for m in methods if not bound(m)], "base-to-novel", given.epochs),
        "few-shot": run(given, methods, "few-shot", given.few_shot_epochs),
    }
    others = {protocol: test_otherwise(given, protocol, comparison) for protocol, (comparison, _) in found.items()}
    write(given, found, others)
    print(f"written to {given.docs} after {(time.monotonic() - began) / 60:.1f} minutes")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="by default all that are registered")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, default=4, help="of every method on the base classes")
    parser.add_argument("--few-shot-epochs", type=int, default=2, help="of every method on all classes")
    parser.add_argument("--batch", type=int, default=16, help="images per step of every method")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--out", default="runs/embedded", help="folder of the comparisons")
    parser.add_argument("--docs", default="docs", help="folder of the page and its pictures")
    parser.add_argument("--readme", default="README.md", help="file that the small table goes into; '' for none")
    return parser.parse_args()


def bound(method: str) -> bool:
    """It answers for its training classes alone."""
    return "unseen-classes" in method_class(method).limitations


def run(given: argparse.Namespace, methods: list[str], protocol: Protocol, epochs: int) -> Found:
    settings = CompareSettings(
        methods=methods,
        protocol=protocol,
        seeds=[int(seed) for seed in given.seeds.split(",")],
        # Some were published with float16, which is very slow on a CPU, and with a whole epoch of warm-up.
        train={"precision": "fp32", "epochs": epochs, "batch_size": given.batch, "warmup_epochs": 0},
        out=f"{given.out}/{protocol}",
    )
    return compare(settings, given.jobs)


def test_otherwise(given: argparse.Namespace, protocol: Protocol, comparison: Comparison) -> Table:
    """Test the runs of a comparison in other ways; what was found is kept in a file."""
    columns = TESTED_OTHERWISE[protocol]
    folders = {method: finished(comparison, method) for method in comparison.methods}
    tests = {test for test, _ in columns.values()}
    asked = [(test.of(method), folder) for method, own in folders.items() for folder in own for test in tests]
    known = tested(asked, Path(given.out) / f"{protocol}.json", given.jobs)
    rows, means = [], []
    for method, own in folders.items():
        values = [[known[test.of(method).key(folder)][number] for folder in own] for test, number in columns.values()]
        if own:
            means.append([round(mean(v), 2) for v in values])
            rows.append((method, *(mean_std_text(MeanStd(mean(v), stdev(v) if len(v) > 1 else None)) for v in values)))
    best = [
        frozenset(i for i, value in enumerate(column) if value == max(column)) for column in zip(*means, strict=True)
    ]
    return Table("tested otherwise", ("method", *columns), tuple(rows), (frozenset(), *best))


def finished(comparison: Comparison, method: str) -> list[Path]:
    entries = [e for data in comparison.data for e in comparison.of(method, data, comparison.shots[0])]
    return [entry.folder for entry in entries if entry.result() is not None]


def tested(asked: Sequence[tuple[Test, Path]], kept: Path, jobs: int) -> dict[str, dict[str, float]]:
    """The numbers of each test of each run, by its key."""
    known: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    missing = [(test, folder) for test, folder in asked if test.key(folder) not in known]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        answers = [(test.key(folder), pool.submit(test.numbers, folder)) for test, folder in missing]
        for key, answer in answers:
            known[key] = answer.result()
            write_json(kept, known)
    return known


def write(given: argparse.Namespace, found: dict[Protocol, Found], others: dict[Protocol, Table]) -> None:
    docs = Path(given.docs)
    (comparison, results), (_, few_shot) = found["base-to-novel"], found["few-shot"]
    draw(comparison, results, docs / "images" / "embedded.png")
    page = PAGE.format(
        command=" ".join(["python benchmarks/embedded.py", *sys.argv[1:]]),
        data=", ".join(comparison.data),
        backbone=comparison.backbone,
        budget=(
            f"Every method has {given.epochs} passes over the images of the base classes, or {given.few_shot_epochs} "
            f"over those of all classes, in batches of {given.batch}, without warm-up, in float32, and the "
            "other settings of its `uniform` recipe."
        ),
        base_to_novel=markdown(results.tables, results.notes),
        statistics="\n".join(f"- {line}" for line in statistics_lines(results.statistics)),
        transferred=markdown([others["base-to-novel"]], []),
        few_shot=markdown(few_shot.tables, few_shot.notes),
        shifted=markdown([others["few-shot"]], []),
    )
    (docs / "embedded.md").write_text(page.strip() + "\n", encoding="utf-8")
    if given.readme:
        readme = Path(given.readme)
        table = small_table(results.rows, few_shot.rows)
        text = IN_README.sub(lambda marks: marks[1] + table + marks[2], readme.read_text(encoding="utf-8"))
        readme.write_text(text, encoding="utf-8")


def draw(comparison: Comparison, results: Results, path: Path) -> None:
    """The main number of each method, and a line at the reference."""
    metric = main_metric(results.rows)
    rows = [row for row in results.rows if metric in row.accuracy]
    figure = dots(rows, metric, series_styles(comparison.methods))
    reference = next((row.accuracy[metric].mean for row in rows if row.method == REFERENCE), None)
    if reference is not None:
        figure.axes[0].axvline(reference, color="0.5", linestyle="dashed", linewidth=1, zorder=0)
    to_png(figure, path)


def small_table(base_to_novel: Sequence[ResultRow], few_shot: Sequence[ResultRow]) -> str:
    """Means and deviations of all methods, without costs."""
    of_base = {row.method: row.accuracy for row in base_to_novel}
    lines = ["| method | base | novel | HM | all classes, few-shot |", "|---|---:|---:|---:|---:|"]
    for row in few_shot:
        known = of_base.get(row.method, {})
        cells = [mean_std_text(known[name]) if name in known else "" for name in ("base", "novel", HARMONIC)]
        lines.append(" | ".join([f"| `{row.method}`", *cells, f"{mean_std_text(row.accuracy['all'])} |"]))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
