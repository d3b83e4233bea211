"""Files of class descriptions: sentences by class name, in JSON or YAML."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

from vlmadapt.errors import DataError
from vlmadapt.files import read_json, read_yaml_text

Sentences = dict[str, tuple[str, ...]]
"""Sentences by class name."""

YAML = (".yaml", ".yml")
LONGEST = 2000
"""Characters of a sentence; a text tower takes 77 tokens."""
FORM = '{"class name": ["a sentence.", "another sentence."], ...}'


def read_descriptions(file: Path) -> Sentences:
    """Sentences by class name from a JSON file, or a YAML file of the same form.

    Raises:
        DataError: the file cannot be read or has another form, or a class has no sentence; the message names it.
    """
    content = read_yaml_text(file) if file.suffix.lower() in YAML else read_json(file)
    if not isinstance(content, dict) or not content:
        raise DataError(f"'{file}' describes no classes; write {FORM}.")
    return {str(name): sentences_of(given, str(name), file) for name, given in content.items()}


def sentences_of(given: object, name: str, where: Path) -> tuple[str, ...]:
    """The sentences of a class, checked; a single text is one sentence.

    Raises:
        DataError: there are none, or one of them is empty, too long or no text.
    """
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not listed:
        raise DataError(f"'{where}' has no sentences for class '{name}'; write a list of them: {FORM}.")
    for number, text in enumerate(listed, start=1):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"sentence {number} of class '{name}' in '{where}' is {text!r}; write a text there.")
        if len(text) > LONGEST:
            raise DataError(
                f"sentence {number} of class '{name}' in '{where}' has {len(text):,} characters; shorten it."
            )
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise DataError(f"sentence {number} of class '{name}' in '{where}' has control characters; correct it.")
    return tuple(" ".join(text.split()) for text in listed)


def merged(parts: Iterable[tuple[str, Mapping[str, tuple[str, ...]]]]) -> Sentences:
    """The descriptions of several data sets, given with their names, as one.

    Raises:
        DataError: two of them describe a class of the same name differently.
    """
    found: Sentences = {}
    origin: dict[str, str] = {}
    for source, sentences in parts:
        for name, texts in sentences.items():
            if found.setdefault(name, texts) != texts:
                raise DataError(
                    f"the data sets '{origin[name]}' and '{source}' describe the class '{name}' differently; give one "
                    "file for all classes with --descriptions."
                )
            origin.setdefault(name, source)
    return found
