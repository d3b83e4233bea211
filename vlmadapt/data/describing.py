"""Sentences for class names: from templates, random words, a hierarchy of classes, and answers of a language model."""

from __future__ import annotations

import gzip
import random
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vlmadapt.errors import DataError, VlmadaptError, unknown
from vlmadapt.files import parse_json, read_text, read_yaml_text
from vlmadapt.text import first_few, readable

TEMPLATES = (
    "a photo of a {}.",
    "a close-up photo of a {}.",
    "a photo of a large {}.",
    "a photo of a small {}.",
    "a bright photo of a {}.",
    "a dark photo of a {}.",
    "a drawing of a {}.",
)
QUESTIONS = (
    "Describe in one sentence what a {} looks like in a photo.",
    "Which features that can be seen in a photo tell a {} from things like it? Answer with a short list.",
)
WORDS = 20_000
"""Merges of CLIP's tokenizer that random words are drawn from, most frequent first."""
VERBS = ("has", "have", "is", "are", "can", "may", "often", "usually", "typically")
NOUN_PHRASES = ("a", "an", "the", "used", "made", "found")


def from_templates(names: Iterable[str], templates: Sequence[str]) -> dict[str, list[str]]:
    """Every template with the class name in place of `{}`, by class name."""
    return {name: [template.replace("{}", readable(name)) for template in templates] for name in names}


# -- random words -----------------------------------------------------------------------------------------------------


def random_descriptors(pairs: int, seed: int, words: int = 2, letters: int = 6) -> tuple[str, ...]:
    """Meaningless descriptors in pairs: some words of CLIP's vocabulary, and as many groups of random letters.

    The same arguments give the same descriptors (WaffleCLIP, Roth et al., ICCV 2023).

    Args:
        pairs: number of pairs.
        seed: of the draw.
        words: words, or groups of letters, in a descriptor.
        letters: letters of a word, at most, and of a group.
    """
    draw, found = random.Random(seed), []
    for _ in range(pairs):
        found.append(" ".join(draw.choice(_vocabulary())[:letters] for _ in range(words)))
        groups = ("".join(draw.choices(string.ascii_lowercase, k=letters)) for _ in range(words))
        found.append(", ".join(groups))
    return tuple(found)


@cache
def _vocabulary() -> tuple[str, ...]:
    """Frequent words, from the vocabulary file of CLIP's tokenizer; open_clip itself is not imported."""
    spec = find_spec("open_clip")
    folder = Path(((spec and spec.submodule_search_locations) or [""])[0])
    with gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "rt", encoding="utf-8") as file:
        merges = [next(file).strip().replace(" ", "") for _ in range(WORDS)]
    words = (merge.removesuffix("</w>") for merge in merges if merge.endswith("</w>"))
    return tuple(word for word in words if word.isascii() and word.isalpha() and len(word) > 2)


# -- descriptors ------------------------------------------------------------------------------------------------------


def with_descriptor(name: str, descriptor: str, before: str = "") -> str:
    """`NAME, which has DESCRIPTOR`, with the verb that fits the descriptor's first word."""
    first = descriptor.split(" ", maxsplit=1)[0].lower()
    verb = "" if first in VERBS else "is " if first in NOUN_PHRASES else "has "
    return f"{before}{readable(name)}, which {verb}{descriptor}"


def mentions(text: str, name: str) -> bool:
    """Whether a text has the class name in it, so that it is a sentence and not a mere descriptor."""
    return readable(name).casefold() in text.casefold()


# -- hierarchy --------------------------------------------------------------------------------------------------------


def from_hierarchy(names: Sequence[str], file: Path) -> dict[str, list[str]]:
    """A sentence for each group above a class, nearest first: `a photo of a NAME, a type of GROUP.`

    Args:
        names: class names.
        file: YAML or JSON with nested groups: `dog: [golden retriever, {terrier: [...]}]`.

    Raises:
        DataError: the file has another form, or a class is in no group.
    """
    groups = dict(_groups(read_yaml_text(file), (), file))
    missing = [name for name in names if readable(name).casefold() not in groups]
    if missing:
        raise DataError(f"'{file}' has no group for {first_few(missing)}; put every class into one.")
    return {
        name: [
            f"a photo of a {readable(name)}, a type of {readable(group)}."
            for group in reversed(groups[readable(name).casefold()])
        ]
        for name in names
    }


def _groups(content: object, above: tuple[str, ...], file: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every class below some groups, with these from the outermost on."""
    if isinstance(content, str) and above:
        yield readable(content).casefold(), above
    elif isinstance(content, Mapping):
        for group, inside in content.items():
            yield from _groups(inside, (*above, str(group)), file)
    elif isinstance(content, list):
        for item in content:
            yield from _groups(item, above, file)
    else:
        raise DataError(f"'{file}' is no hierarchy; write `GROUP: [CLASS, CLASS, ...]`, with groups inside groups.")


# -- a language model -------------------------------------------------------------------------------------------------


def questions(names: Iterable[str], texts: Sequence[str] = QUESTIONS) -> list[dict[str, str]]:
    """Questions about each class for a language model, with room for its answers."""
    return [{"class": name, "question": t.replace("{}", readable(name)), "answer": ""} for name in names for t in texts]


def from_answers(names: Sequence[str], file: Path) -> dict[str, list[str]]:
    """The sentences of a language model's answers, by class name; items of a list become `NAME, which has ITEM.`

    Args:
        names: class names.
        file: JSON lines as `questions` gives them, with answers.

    Raises:
        DataError: a line has another form, or a class has no answer.
    """
    found: dict[str, list[str]] = {name: [] for name in names}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"line {number} of '{file}'"
        content = parse_json(line, where)
        if not isinstance(content, dict) or not all(isinstance(content.get(k), str) for k in ("class", "answer")):
            raise DataError(f'{where} is not {{"class": NAME, "question": TEXT, "answer": TEXT}}.')
        if content["class"] not in found:
            raise DataError(f"{where}: {unknown('class', content['class'], names)}")
        found[content["class"]] += _sentences(content["class"], content["answer"])
    missing = [name for name, texts in found.items() if not texts]
    if missing:
        raise DataError(f"'{file}' has no answer about {first_few(missing)}; fill in \"answer\".")
    return found


def _sentences(name: str, answer: str) -> Iterator[str]:
    for line in filter(None, map(str.strip, answer.splitlines())):
        item = re.match(r"(?:[-*•]|\d+[.)])\s+(.+)", line)
        if item:
            text = item[1].rstrip(".")
            yield f"{text}." if mentions(text, name) else f"{with_descriptor(name, text)}."
        else:
            yield from (text for text in re.split(r"(?<=[.!?])\s+", line) if not text.endswith(":"))


def joined(parts: Iterable[Mapping[str, Sequence[str]]]) -> dict[str, list[str]]:
    """The sentences of several sources for each class, each sentence once.

    Raises:
        VlmadaptError: there is no source.
    """
    found: dict[str, list[str]] = {}
    for part in parts:
        for name, texts in part.items():
            found[name] = list(dict.fromkeys([*found.get(name, []), *texts]))
    if not found:
        raise VlmadaptError("there is nothing to describe the classes with; name a kind.")
    return found
