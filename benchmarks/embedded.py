"""Embedded head-to-head: every registered method on the data set and backbone that come with the package.

    python benchmarks/embedded.py                    # docs/embedded.md, its picture, and the table in the README
    python benchmarks/embedded.py --recipe uniform   # docs/embedded-equal.md: the same small budget for every method
    python benchmarks/embedded.py --methods coop --run-only few-shot   # a part of the runs, to be joined later
    python benchmarks/embedded.py --methods clip,coop --seeds 1 --docs /tmp/style --readme ''            # just a style

With `--recipe paper` each method has its published recipe: its epochs, batch size, learning rate and schedule. What
that takes is listed by `vlmadapt compare --recipe paper --train.precision fp32 --methods ... --measure`.
For each seed, methods are trained on the base classes, and those that `takes_part` names on all classes too. Protocols
with the same training share these runs. With `--transfer`, runs on the base classes are tested on all classes together
and in the other style too, and runs on all classes, for domain generalization, in the other style. Runs are kept in
`--out`, and an interrupted benchmark continues there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from vlmadapt import evaluate, registry
from vlmadapt.compare.aggregate import HARMONIC, MeanStd, ResultRow, main_metric
from vlmadapt.compare.compare import Results, compare
from vlmadapt.compare.formats import markdown
from vlmadapt.compare.record import Comparison
from vlmadapt.compare.sentences import statistics_lines
from vlmadapt.compare.settings import CompareSettings
from vlmadapt.compare.tables import Table
from vlmadapt.compare.tracks import TrackPart, by_track
from vlmadapt.core.build import method_class
from vlmadapt.core.wrapper import Wrapper
from vlmadapt.data.splits import Protocol
from vlmadapt.files import write_json
from vlmadapt.registry.tracks import FEW_SHOT
from vlmadapt.report.charts import dots
from vlmadapt.report.style import series_styles, to_png

REFERENCE, OTHER_STYLE = "clip", "openmoji-outline"
Found = tuple[Comparison, Results]


@dataclass(frozen=True)
class Test:
    """Another test of finished runs, with the arguments of `vlmadapt.evaluate`."""

    data: str | None = None
    protocol: Protocol | None = None
    role: str | None = None

    def key(self, folder: Path) -> str:
        return f"{folder.name} {self.data} {self.protocol} {self.role}"

    def numbers(self, folder: Path) -> dict[str, float]:
        return evaluate(folder, data=self.data, protocol=self.protocol, role=self.role)[1]

    def of(self, method: str) -> Test:
        """The test as a method supports it: one that knows only its training classes cannot treat them as unseen."""
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
"""For each training protocol: column -> the test, and the name of its result."""

NAMES = {"paper": "embedded", "uniform": "embedded-equal"}
"""Names of the pages and pictures by recipe."""

ROOT = Path(__file__).resolve().parents[1]
SHORTER = ROOT / "benchmarks" / "embedded_settings"
"""Settings of methods whose published recipe takes most of an hour here, over those of the recipe."""
GENERAL = ("mmrl", "mmrl++")
"""Methods for which there are also settings chosen on this data set; no other method has them."""
LEFT_OUT = ("lweib", "promptkd")
"""Methods whose prompts with descriptions are too long for the tiny text tower, or that need a trained teacher."""

PUBLISHED = """Every method is trained with its published recipe (`--recipe paper`): its own epochs, batch size,
learning rate and schedule, in float32. Recipes were published for ViT-B/16 and photographs. {shorter} are trained for
a fifth or a tenth of their published steps, which take 7 to 33 minutes a run on one CPU thread; `mmrl` and `mmrl++`
with their general published settings, not those [chosen on this data set](tiny-clip.md#few-shot). Methods that read
class descriptions have four sentences for each class, written by hand from the class names. Two methods are left out:
`promptkd` needs a trained teacher, and prompts of `lweib` are longer than the tiny text tower's context. Other work
shared the machine, so that times are rough."""
HEADS = """Methods that leave both towers alone, with their published recipes for few-shot classification. Many of them
can only predict their training classes."""
ALL = "This table includes the methods that can only predict their training classes."
EQUAL = """Every method is trained for {epochs} epochs on the base classes, or {few_shot_epochs} epochs on all classes,
in batches of {batch}, without warm-up, in float32; all other settings are those of its `uniform` recipe. Published
budgets differ by a factor of eighty, so this one favours some methods: one that was published with hundreds of epochs
is seen early in its training. [The same methods with their published recipes](embedded.md)"""

PAGE = """# Embedded head-to-head

Generated by `{command}`; do not edit. It compares all methods on the {data} data set with the `{backbone}` backbone
([model card and limitations](tiny-clip.md)). It shows that the methods run and compares their costs;
it cannot show which method is better on real backbones and data.

{budget}

{pictures}

## Trained on the base classes

{base_to_novel}
What follows from these numbers:

{statistics}

{transferred}## Trained on all classes

{trained_on_all}

{few_shot}
{shifted}"""

OTHERWISE: dict[Protocol, str] = {
    "base-to-novel": """The same runs, tested on all classes together with unknown roles (all-classes), and on the same
concepts in another style, outlines without colour:

""",
    "few-shot": """The same runs, tested on the outlines (domain-generalization). As in published code, the router
treats the classes of another style as unseen, except for methods that cannot predict unseen classes:

""",
}
"""What precedes the tables of the other tests."""

IN_README = re.compile(r"(<!-- embedded -->\n).*(<!-- end of embedded -->)", re.DOTALL)


def main() -> None:
    began = time.monotonic()
    given = parse()
    registered = [plugin.name for plugin in registry.plugins(registry.METHODS) if plugin.name not in LEFT_OUT]
    methods = given.methods.split(",") if given.methods else sorted(registered, key=lambda name: name != REFERENCE)
    found: dict[Protocol, Found] = {}
    for protocol in given.run_only or TESTED_OTHERWISE:
        found[protocol] = run(given, [method for method in methods if takes_part(method, protocol, given)], protocol)
    if given.run_only:
        return
    others: dict[Protocol, list[Table]] = {}
    if given.transfer:
        others = {protocol: test_otherwise(given, protocol, comparison) for protocol, (comparison, _) in found.items()}
    write(given, found, others)
    print(f"written to {given.docs} after {(time.monotonic() - began) / 60:.1f} minutes")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", help="by default all that are registered")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--recipe", choices=NAMES, default="paper", help="as published, or the same budget for all")
    parser.add_argument(
        "--run-only", nargs="+", choices=TESTED_OTHERWISE, help="do the runs of these protocols, and write no page"
    )
    parser.add_argument("--transfer", action="store_true", help="test the runs in other ways too")
    parser.add_argument("--epochs", type=int, default=4, help="with uniform: epochs on the base classes")
    parser.add_argument("--few-shot-epochs", type=int, default=2, help="with uniform: epochs on all classes")
    parser.add_argument("--batch", type=int, default=16, help="with uniform: images per step")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--out", default="runs/embedded", help="folder of the comparisons")
    parser.add_argument("--docs", default="docs", help="folder of the page and its pictures")
    parser.add_argument("--readme", default="README.md", help="file for the small table; '' for none")
    return parser.parse_args()


def bound(method: str) -> bool:
    """Whether a method answers only for its training classes."""
    return "unseen-classes" in method_class(method).limitations


def takes_part(method: str, protocol: Protocol, given: argparse.Namespace) -> bool:
    """Whether a method is trained here: on base classes if it can answer for others; on all classes, with published
    recipes, if it leaves both towers alone: training inside them for hundreds of epochs takes hours."""
    if protocol == "base-to-novel":
        return not bound(method)
    cls = method_class(method)
    return given.recipe == "uniform" or not (cls.touches or issubclass(cls, Wrapper))


def run(given: argparse.Namespace, methods: list[str], protocol: Protocol) -> Found:
    # Some were published with float16, which is very slow on a CPU, and with a whole epoch of warm-up.
    epochs = given.few_shot_epochs if protocol == "few-shot" else given.epochs
    equal = {"epochs": epochs, "batch_size": given.batch, "warmup_epochs": 0} if given.recipe == "uniform" else {}
    settings = CompareSettings(
        methods=methods,
        protocol=protocol,
        seeds=[int(seed) for seed in given.seeds.split(",")],
        recipe=given.recipe,
        method_configs=list(settings_files(methods, protocol)) if given.recipe == "paper" else [],
        train={"precision": "fp32", **equal},
        out=f"{given.out}/{given.recipe}/{protocol}",
    )
    return compare(settings, given.jobs)


def settings_files(methods: Sequence[str], protocol: Protocol) -> Iterator[str]:
    """Settings of the methods that are not trained as `recipe: paper` says; see SHORTER and GENERAL."""
    for method in methods:
        shorter = SHORTER / f"{method}.yaml"
        if method in GENERAL or shorter.is_file():
            folder = Path("configs") / method
            own = folder / f"{protocol}.yaml"
            yield str(own if (ROOT / own).is_file() else folder / "paper.yaml")
        if shorter.is_file():
            yield str(shorter.relative_to(ROOT))


def test_otherwise(given: argparse.Namespace, protocol: Protocol, comparison: Comparison) -> list[Table]:
    """Test the runs of a comparison in other ways, a table for each track; results are kept in a file."""
    columns = TESTED_OTHERWISE[protocol]
    folders = {method: finished(comparison, method) for method in comparison.methods}
    tests = {test for test, _ in columns.values()}
    asked = [(test.of(method), folder) for method, own in folders.items() for folder in own for test in tests]
    known = tested(asked, Path(given.out) / given.recipe / f"{protocol}.json", given.jobs)
    return [otherwise_table(part, protocol, folders, known) for part in by_track(comparison)]


def otherwise_table(
    part: TrackPart, protocol: Protocol, folders: dict[str, list[Path]], known: dict[str, dict[str, float]]
) -> Table:
    """Means and deviations of other tests of the methods of a track, of their runs by method and results by key."""
    columns = TESTED_OTHERWISE[protocol]
    rows, means = [], []
    for method, own in ((method, folders[method]) for method in part.comparison.methods):
        values = [[known[test.of(method).key(folder)][number] for folder in own] for test, number in columns.values()]
        if own:
            means.append([round(mean(v), 2) for v in values])
            rows.append((method, *(str(MeanStd.of(v)) for v in values)))
    best = [
        frozenset(i for i, value in enumerate(column) if value == max(column)) for column in zip(*means, strict=True)
    ]
    title = ", ".join(filter(None, ["tested otherwise", part.title]))
    return Table(title, ("method", *columns), tuple(rows), (frozenset(), *best))


def finished(comparison: Comparison, method: str) -> list[Path]:
    entries = [e for data in comparison.data for e in comparison.of(method, data, comparison.shots[0])]
    return list(dict.fromkeys(entry.folder for entry in entries if entry.result() is not None))


def tested(asked: Sequence[tuple[Test, Path]], kept: Path, jobs: int) -> dict[str, dict[str, float]]:
    """Results of each test of each run, by key."""
    known: dict[str, dict[str, float]] = json.loads(kept.read_text()) if kept.is_file() else {}
    missing = [(test, folder) for test, folder in asked if test.key(folder) not in known]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        answers = [(test.key(folder), pool.submit(test.numbers, folder)) for test, folder in missing]
        for key, answer in answers:
            known[key] = answer.result()
            write_json(kept, known)
    return known


def write(given: argparse.Namespace, found: dict[Protocol, Found], others: dict[Protocol, list[Table]]) -> None:
    docs, name = Path(given.docs), NAMES[given.recipe]
    shorter = ", ".join(f"`{file.stem}`" for file in sorted(SHORTER.glob("*.yaml")))
    budget = PUBLISHED.format(shorter=shorter) if given.recipe == "paper" else EQUAL.format(**vars(given))
    (comparison, results), (_, few_shot) = found["base-to-novel"], found["few-shot"]
    page = PAGE.format(
        command="python benchmarks/embedded.py" + (" --recipe uniform" if given.recipe == "uniform" else ""),
        data=", ".join(comparison.data),
        backbone=comparison.backbone,
        budget=budget,
        pictures="\n\n".join(draw(results, docs, name)),
        base_to_novel=markdown(results.tables, results.notes),
        statistics="\n".join(f"- {line}" for line in statistics_lines(results.statistics)),
        transferred=otherwise("base-to-novel", others),
        trained_on_all=HEADS if given.recipe == "paper" else ALL,
        few_shot=markdown(few_shot.tables, few_shot.notes),
        shifted=otherwise("few-shot", others),
    )
    (docs / f"{name}.md").write_text(page.strip() + "\n", encoding="utf-8")
    if given.readme and given.recipe == "paper":
        readme = Path(given.readme)
        table = small_tables(results, few_shot)
        text = IN_README.sub(lambda marks: marks[1] + table + marks[2], readme.read_text(encoding="utf-8"))
        readme.write_text(text, encoding="utf-8")


def otherwise(protocol: Protocol, others: dict[Protocol, list[Table]]) -> str:
    """The section of the other tests of a protocol's runs, if they were made."""
    return OTHERWISE[protocol] + markdown(others[protocol], []) + "\n" if protocol in others else ""


def draw(results: Results, docs: Path, name: str) -> Iterator[str]:
    """Draw the main accuracy of each method and a line at the reference, a picture for each track; their Markdown."""
    for part in results.parts:
        rows = part.own(results.rows)
        metric = main_metric(rows)
        rows = [row for row in rows if metric in row.accuracy]
        figure = dots(rows, metric, series_styles([*dict.fromkeys(row.method for row in results.rows)]))
        reference = next((row.accuracy[metric].mean for row in rows if row.method == REFERENCE), None)
        if reference is not None:
            figure.axes[0].axvline(reference, color="0.5", linestyle="dashed", linewidth=1, zorder=0)
        file = f"{name}.png" if part.track == FEW_SHOT else f"{name}-{part.track}.png"
        to_png(figure, docs / "images" / file)
        yield f"![{', '.join(filter(None, ['Harmonic mean of each method', part.title]))}](images/{file})"


def small_tables(base_to_novel: Results, few_shot: Results) -> str:
    """A small table for each track."""
    heads = {part.track: part.own(few_shot.rows) for part in few_shot.parts}
    tables = [
        (part.title, small_table(part.own(base_to_novel.rows), heads.get(part.track, ())))
        for part in base_to_novel.parts
    ]
    return "\n".join(f"Methods {title}:\n\n{table}" if title else table for title, table in tables)


def small_table(base_to_novel: Sequence[ResultRow], few_shot: Sequence[ResultRow]) -> str:
    """Means and deviations of methods without costs, best harmonic mean first, then those without one."""
    known: dict[str, dict[str, MeanStd]] = {}
    for row in (*base_to_novel, *few_shot):
        known.setdefault(row.method, {}).update(row.accuracy)
    lines = ["| method | base | novel | HM | all classes, few-shot |", "|---|---:|---:|---:|---:|"]
    for method, accuracy in sorted(known.items(), key=lambda item: _order(item[1])):
        cells = [str(accuracy.get(name, "")) for name in ("base", "novel", HARMONIC, "all")]
        lines.append(f"| `{method}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _order(accuracy: dict[str, MeanStd]) -> tuple[float, ...]:
    """Sort key: harmonic mean, then accuracy on all classes, highest first."""
    return tuple(-accuracy[name].mean if name in accuracy else 0.0 for name in (HARMONIC, "all"))


if __name__ == "__main__":
    main()
