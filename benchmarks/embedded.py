"""The embedded head-to-head: every registered method on the data set and backbone that come with the package.

    python benchmarks/embedded.py                                      # docs/embedded.md and docs/images/embedded.png
    python benchmarks/embedded.py --methods clip,coop --seeds 1 --docs /tmp/docs      # a look, not for the repository

Runs are kept in `--out`; an interrupted benchmark goes on from there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from vlmadapt import registry
from vlmadapt.workflows.compare.formats import markdown
from vlmadapt.workflows.compare.record import Comparison
from vlmadapt.workflows.compare.rows import main_metric
from vlmadapt.workflows.compare.screen import statistics_lines
from vlmadapt.workflows.compare.settings import CompareSettings
from vlmadapt.workflows.compare.workflow import Findings, compare
from vlmadapt.workflows.report.charts import dots
from vlmadapt.workflows.report.style import looks, to_png

REFERENCE = "clip"
PAGE = """# Embedded head-to-head

Written by `python benchmarks/embedded.py`, never by hand. It compares all methods on the {data} data set with the
`{backbone}` backbone ([what these are and what they cannot do](tiny-clip.md)), {protocol}. It shows that the methods
run and what they cost beside each other; which method is better on real backbones and data it cannot show.

![Harmonic mean of each method](images/embedded.png)

{table}
## What can be said

{statistics}
"""


def main() -> None:
    arguments = parse()
    registered = [plugin.name for plugin in registry.plugins(registry.METHODS)]
    methods = arguments.methods.split(",") if arguments.methods else sorted(registered, key=lambda m: m != REFERENCE)
    settings = CompareSettings(
        methods=methods,
        seeds=[int(seed) for seed in arguments.seeds.split(",")],
        train={"epochs": arguments.epochs} if arguments.epochs else {},
        out=arguments.out,
    )
    comparison, findings = compare(settings, arguments.jobs)
    write(comparison, findings, Path(arguments.docs))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="by default all that are registered")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--epochs", type=int, help="for all methods, instead of those of their uniform recipes")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--out", default="runs/embedded", help="folder of the comparison")
    parser.add_argument("--docs", default="docs", help="folder of the page and its picture")
    return parser.parse_args()


def write(comparison: Comparison, findings: Findings, docs: Path) -> None:
    metric = main_metric(findings.rows)
    rows = [row for row in findings.rows if metric in row.accuracy]
    to_png(dots(rows, metric, looks(comparison.methods)), docs / "images" / "embedded.png")
    lines = "\n".join(f"- {line}" for line in statistics_lines(findings.statistics))
    page = PAGE.format(
        data=", ".join(comparison.data),
        backbone=comparison.backbone,
        protocol=comparison.protocol,
        table=markdown(findings.tables, findings.notes),
        statistics=lines,
    )
    (docs / "embedded.md").write_text(page, encoding="utf-8")
    print(f"written to {docs / 'embedded.md'}")


if __name__ == "__main__":
    main()
