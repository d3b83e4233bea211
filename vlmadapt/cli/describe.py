"""`vlmadapt describe`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from jsonargparse import Namespace

from vlmadapt.cli.parsing import add_data_root, new_parser, parse
from vlmadapt.data import describing
from vlmadapt.data.class_file import read_names
from vlmadapt.data.templates import check_templates
from vlmadapt.errors import DataError, VlmadaptError, unknown
from vlmadapt.files import exists, write_json, write_text
from vlmadapt.text import counted

DESCRIPTION = """Write sentences for each class of your data to a file for --descriptions. Nothing is downloaded and no
model runs. Kinds, several with commas between:
templates: --template with the class name, once or more;
random: meaningless words after the class name (WaffleCLIP);
hierarchy: groups that a class belongs to, from the file --hierarchy;
questions: a JSON line for each question about a class, to be answered by a language model of your own;
answers: these lines with "answer" filled in, from the file --answers."""

Source = Callable[[Namespace, Sequence[str]], dict[str, list[str]]]


def run(arguments: list[str]) -> None:
    """Parse, write, say what was written."""
    parser = new_parser("describe", DESCRIPTION)
    parser.add_argument("--data", type=str | None, default=None, help="data whose classes are described, as for fit")
    parser.add_argument("--classes", type=str | None, default=None, help="class names instead, or a file of them")
    add_data_root(parser)
    parser.add_argument("--kind", type=str, default="templates", help=f"one or more of {', '.join([*SOURCES, ASK])}")
    parser.add_argument("--template", action="append", type=str, help="templates: text with `{}`, once or more")
    parser.add_argument("--pairs", type=int, default=15, help="random: pairs of descriptors")
    parser.add_argument("--seed", type=int, default=1, help="random: seed of the descriptors")
    parser.add_argument("--hierarchy", type=str | None, default=None, help="hierarchy: YAML file of nested groups")
    parser.add_argument("--answers", type=str | None, default=None, help="answers: file of answered questions")
    parser.add_argument("--out", type=str | None, default=None, help="file to write, by default descriptions.json")
    given = parse(parser, arguments)
    kinds = [kind.strip() for kind in given.kind.split(",")]
    for kind in kinds:
        if kind not in (*SOURCES, ASK):
            raise VlmadaptError(unknown("kind", kind, (*SOURCES, ASK)))
    if ASK in kinds and len(kinds) > 1:
        raise VlmadaptError(f"--kind {ASK} writes questions, not sentences; use it alone.")
    names = _names(given)
    out = Path(given.out or (f"{ASK}.jsonl" if ASK in kinds else "descriptions.json"))
    if exists(out):
        raise DataError(f"'{out}' exists already; choose another file with --out, or delete it.")
    if ASK in kinds:
        _write_questions(names, out)
        return
    found = describing.joined(SOURCES[kind](given, names) for kind in kinds)
    write_json(out, found)
    count = sum(map(len, found.values()))
    print(f"{out}: {counted(count, 'sentence')} for {len(found):,} classes.")
    print(f"use it with: vlmadapt fit --method METHOD --descriptions {out} ...")


def _templates(given: Namespace, names: Sequence[str]) -> dict[str, list[str]]:
    return describing.from_templates(names, check_templates(given.template or describing.TEMPLATES))


def _random(given: Namespace, names: Sequence[str]) -> dict[str, list[str]]:
    drawn = describing.random_descriptors(given.pairs, given.seed)
    return {name: [f"{describing.with_descriptor(name, d, 'a photo of a ')}." for d in drawn] for name in names}


def _hierarchy(given: Namespace, names: Sequence[str]) -> dict[str, list[str]]:
    return describing.from_hierarchy(names, _file(given.hierarchy, "hierarchy", "nested groups of classes"))


def _answers(given: Namespace, names: Sequence[str]) -> dict[str, list[str]]:
    return describing.from_answers(names, _file(given.answers, "answers", "answered questions"))


SOURCES: dict[str, Source] = {"templates": _templates, "random": _random, "hierarchy": _hierarchy, "answers": _answers}
ASK = "questions"


def _file(given: str | None, kind: str, what: str) -> Path:
    if given is None:
        raise VlmadaptError(f"--kind {kind} needs a file with {what}: --{kind} FILE.")
    return Path(given)


def _names(given: Namespace) -> Sequence[str]:
    if (given.data is None) == (given.classes is None):
        raise VlmadaptError("say whose classes to describe: --data DATA, or --classes 'NAME, NAME' or a file of names.")
    if given.data is not None:
        from vlmadapt.data.load import load_data

        return load_data(given.data, root=Path(given.data_root) if given.data_root else None).classes
    if exists(Path(given.classes)):
        return read_names(Path(given.classes))
    return [name.strip() for name in given.classes.split(",") if name.strip()]


def _write_questions(names: Sequence[str], out: Path) -> None:
    lines = describing.questions(names)
    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(f"{out}: {counted(len(lines), 'question')} about {len(names):,} classes.")
    print(f'fill in "answer" with your language model, then: vlmadapt describe --kind answers --answers {out} ...')
