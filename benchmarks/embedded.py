"""The embedded head-to-head: every registered method on the data set and backbone that come with the package.

    python benchmarks/embedded.py                                      # docs/embedded.md and docs/images/embedded.png
    python benchmarks/embedded.py --methods clip,coop --seeds 1 --docs /tmp/docs      # a look, not for the repository

Runs are kept in `--out`; an interrupted benchmark goes on from there. Protocols that train alike share their runs: what
was trained on the base classes is tested on them and the novel ones, on all of them together, and in the other style.
Methods that have no answer for unseen classes are compared on all classes, beside the reference.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

from vlmadapt import evaluate, registry
from vlmadapt.core.build import method_class
from vlmadapt.files import write_json
from vlmadapt.workflows.compare.formats import markdown
from vlmadapt.workflows.compare.record import Comparison
from vlmadapt.workflows.compare.rows import Spread, main_metric
from vlmadapt.workflows.compare.screen import statistics_lines
from vlmadapt.workflows.compare.settings import CompareSettings
from vlmadapt.workflows.compare.table import Table, spread_text
from vlmadapt.workflows.compare.workflow import Findings, compare
from vlmadapt.workflows.report.charts import dots
from vlmadapt.workflows.report.style import looks, to_png

REFERENCE, OTHER_STYLE = "clip", "openmoji-outline"
TRANSFERRED = {
    "all classes, roles unknown": (None, "all-classes", "all"),
    "outline, base": (OTHER_STYLE, "base-to-novel", "base"),
    "outline, novel": (OTHER_STYLE, "base-to-novel", "novel"),
    "outline, HM": (OTHER_STYLE, "base-to-novel", "harmonic_mean"),
}
"""Column -> data, protocol and number of what the runs of the base classes are tested on besides."""

PAGE = """# Embedded head-to-head

Written by `{command}`, never by hand. It compares all methods on the {data} data set with the
`{backbone}` backbone ([what these are and what they cannot do](tiny-clip.md)). It shows that the methods
run and what they cost beside each other; which method is better on real backbones and data it cannot show. Every method
has {budget}. Published budgets differ by a factor of eighty, so this one
suits some better than others: a method that was published for hundreds of passes is seen at its start.

![Harmonic mean of each method](images/embedded.png)

## Trained on the base classes

{base_to_novel}
What can be said of it:

{statistics}

The same runs, tested on all classes together without telling the method which it was trained on, and on the same things
in another style (outlines without colour):

{transferred}
## Methods that know their training classes alone

{few_shot}"""


def main() -> None:
    began = time.monotonic()
    arguments = parse()
    registered = [plugin.name for plugin in registry.plugins(registry.METHODS)]
    methods = arguments.methods.split(",") if arguments.methods else sorted(registered, key=lambda m: m != REFERENCE)
    bound = [name for name in methods if "unseen-classes" in method_class(name).limitations]
    found = {
        "base-to-novel": run(arguments, [name for name in methods if name not in bound], "base-to-novel"),
        "few-shot": run(arguments, [name for name in methods if name == REFERENCE or name in bound], "few-shot"),
    }
    transferred = transfer(found["base-to-novel"][0], Path(arguments.out) / "transferred.json")
    write(arguments, found, transferred)
    print(f"written to {arguments.docs} after {(time.monotonic() - began) / 60:.1f} minutes")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="by default all that are registered")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument(
        "--epochs", type=int, default=5, help="of every method; 0 for their uniform recipes as they are"
    )
    parser.add_argument("--batch", type=int, default=4, help="images per step of every method")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--out", default="runs/embedded", help="folder of the comparisons")
    parser.add_argument("--docs", default="docs", help="folder of the page and its pictures")
    return parser.parse_args()


def run(arguments: argparse.Namespace, methods: list[str], protocol: str) -> tuple[Comparison, Findings]:
    settings = CompareSettings(
        methods=methods,
        protocol=protocol,
        seeds=[int(seed) for seed in arguments.seeds.split(",")],
        # float16 is what some were published with, and very slow on a CPU
        train={"precision": "fp32"}
        | ({"epochs": arguments.epochs, "batch_size": arguments.batch} if arguments.epochs else {}),
        out=f"{arguments.out}/{protocol}",
    )
    return compare(settings, arguments.jobs)


def transfer(comparison: Comparison, kept: Path) -> Table:
    """Test the runs of a comparison in other ways; what was found is kept in a file."""
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    rows = []
    for method in comparison.methods:
        runs = [e.folder for data in comparison.data for e in comparison.of(method, data, comparison.shots[0])
                if e.result() is not None]  # fmt: skip
        for folder in runs:
            for data, protocol in dict.fromkeys((data, protocol) for data, protocol, _ in TRANSFERRED.values()):
                key = f"{folder.name} {data} {protocol}"
                if key not in known:
                    known[key] = evaluate(folder, data=data, protocol=protocol)[1]
                    write_json(kept, known)
        if runs:
            rows.append((method, *cells(known, [folder.name for folder in runs])))
    best = [frozenset[int]()]
    for column in range(1, len(TRANSFERRED) + 1):
        means = [float(row[column].split()[0]) for row in rows]
        best.append(frozenset(i for i, value in enumerate(means) if value == max(means)))
    return Table("tested otherwise", ("method", *TRANSFERRED), tuple(rows), tuple(best))


def cells(known: dict[str, dict[str, float]], folders: list[str]) -> Iterator[str]:
    for data, protocol, number in TRANSFERRED.values():
        values = [known[f"{folder} {data} {protocol}"][number] for folder in folders]
        yield spread_text(Spread(mean(values), stdev(values) if len(values) > 1 else None))


def write(arguments: argparse.Namespace, found: dict[str, tuple[Comparison, Findings]], transferred: Table) -> None:
    docs = Path(arguments.docs)
    comparison, findings = found["base-to-novel"]
    metric = main_metric(findings.rows)
    rows = [row for row in findings.rows if metric in row.accuracy]
    to_png(dots(rows, metric, looks(comparison.methods)), docs / "images" / "embedded.png")
    epochs = arguments.epochs
    same = f"the same budget of {epochs} passes over the training images in batches of {arguments.batch}, in float32"
    budget = f"{same}, and the other settings of its `uniform` recipe" if epochs else "its `uniform` recipe"
    few_shot = found["few-shot"][1]
    page = PAGE.format(
        command=" ".join(["python benchmarks/embedded.py", *sys.argv[1:]]),
        data=", ".join(comparison.data),
        backbone=comparison.backbone,
        budget=budget,
        base_to_novel=markdown(findings.tables, findings.notes),
        statistics="\n".join(f"- {line}" for line in statistics_lines(findings.statistics)),
        transferred=markdown([transferred], []),
        few_shot=markdown(few_shot.tables, few_shot.notes),
    )
    (docs / "embedded.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
