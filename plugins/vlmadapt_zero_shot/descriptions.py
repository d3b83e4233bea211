"""DCLIP (Menon & Vondrick, ICLR 2023), CuPL (Pratt et al., ICCV 2023) and WaffleCLIP (Roth et al., ICCV 2023)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

import torch.nn.functional as F
from torch import Tensor

from vlmadapt.plugin import (
    DataError,
    Descriptions,
    ForwardPass,
    Method,
    Recipe,
    Role,
    random_descriptors,
    readable,
    similarity,
    with_descriptor,
)


@dataclass
class DCLIPConfig:
    """Options of DCLIP.

    Args:
        published: take every description for a descriptor, and choose the verb before it, as the published code does.
        before: text before the class name of a descriptor.
        after: text after a descriptor; "." for ImageNet in the published code.
    """

    published: bool = False
    before: str = ""
    after: str = ""


class DCLIP(Method):
    """Zero-shot classification by description: the mean cosine of an image with all descriptions of a class.

    With f the unit image feature and w_{c,k} the unit text feature of description k of class c,

        z_c = s mean_k f . w_{c,k}

    A description without the class name is a descriptor, as in the published files, and is written as `NAME, which has
    DESCRIPTOR`; any other one is encoded as it is. The mean is not normalised again.

    Official code (sachit-menon/classify_by_description_release) takes every description for a descriptor, and looks at
    the letters it begins with instead of its words: it writes `which is antlers` and `which has made of wood`. Here
    whole words are compared, and `published` does as the code. It also scores classes in the order of the descriptions'
    file.
    """

    Config = DCLIPConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(epochs=0)
    paper = "Menon & Vondrick, Visual Classification via Description from Large Language Models, ICLR 2023"
    touches = ()
    learns = False

    @property
    def reads_descriptions(self) -> bool:
        """Classes have to be described."""
        return True

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Mean over the descriptions of each class, for seen and unseen classes alike."""
        texts = as_sentences(fwd.descriptions, fwd.names, self.config)
        return fwd.scale * similarity(fwd.zero_shot.image, texts.mean(fwd.sentences(texts).zero_shot.text))


@dataclass
class CuPLConfig:
    """CuPL has no options."""


class CuPL(Method):
    """Customized prompts: the mean feature of sentences that a language model wrote about each class.

    With w_{c,k} the unit text feature of sentence k of class c and n() the unit norm,

        w_c = n(mean_k w_{c,k}),    z_c = s f . w_c

    Official code (sarahpratt/CuPL) joins these sentences with CLIP's templates in its best variant; put both into one
    file for that (`vlmadapt describe --kind answers,templates`).
    """

    Config = CuPLConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(epochs=0)
    paper = "Pratt et al., What does a platypus look like? Generating customized prompts, ICCV 2023"
    touches = ()
    learns = False

    @property
    def reads_descriptions(self) -> bool:
        """Classes have to be described."""
        return True

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Scores by the mean feature of each class, for seen and unseen classes alike."""
        mean = fwd.descriptions.mean(fwd.sentences().zero_shot.text)
        return fwd.scale * similarity(fwd.zero_shot.image, F.normalize(mean, dim=-1))


@dataclass
class WaffleConfig:
    """Options of WaffleCLIP.

    Args:
        pairs: pairs of random descriptors, one of words and one of letters.
        words: words, or groups of letters, in a descriptor.
        letters: letters of a word, at most, and of a group of letters.
        seed: of the descriptors; published results are means over several.
        before: text before the class name.
        descriptors: descriptors to take instead of drawing them, such as those that the published code drew.
        published: choose the verb before a descriptor as the published code does.
    """

    pairs: int = 15
    words: int = 2
    letters: int = 6
    seed: int = 1
    before: str = "A photo of a "
    descriptors: list[str] = field(default_factory=list)
    published: bool = False


class Waffle(Method):
    """Zero-shot classification with random words and letters in place of descriptions.

    Every class is written as `A photo of a NAME, which has RANDOM.` with the same random descriptors, and scored by
    the mean cosine as in DCLIP.

    Official code (ExplainableML/WaffleCLIP) takes the number and length of the random words from the names of all
    classes of the data set, those to be tested too, and the letters from descriptions; here they are options, and
    words come from the vocabulary of CLIP's tokenizer instead of a word list. Its verbs are those of DCLIP's code:
    `which is` before every descriptor that begins with the letter a.
    """

    Config = WaffleConfig
    api_version = 2
    track = "descriptions"
    recipe = Recipe(epochs=0)
    paper = "Roth et al., Waffling around for Performance: Visual Classification with Random Words, ICCV 2023"
    touches = ()

    def templates(self) -> list[str]:
        """The sentences with `{}` for the class name.

        Raises:
            DataError: there are no random words to write.
        """
        c = self.config
        if min(c.pairs, c.words, c.letters) < 1:
            raise DataError("WaffleCLIP needs at least one pair, one word and one letter.")
        found = c.descriptors or random_descriptors(c.pairs, c.seed, c.words, c.letters)
        return [f"{_described('{}', descriptor, c.before, c.published)}." for descriptor in found]

    def route(self, fwd: ForwardPass, role: Role) -> Tensor:
        """Mean over the random descriptors of each class, for seen and unseen classes alike."""
        texts = Descriptions.from_templates(self.templates(), fwd.names)
        return fwd.scale * similarity(fwd.zero_shot.image, texts.mean(fwd.sentences(texts).zero_shot.text))


def as_sentences(texts: Descriptions, names: tuple[str, ...], config: DCLIPConfig) -> Descriptions:
    """Descriptions with mere descriptors written after the class name."""
    return _as_sentences(texts.sentences, texts.counts, names, config.published, config.before, config.after)


@lru_cache(maxsize=8)
def _as_sentences(
    sentences: tuple[str, ...],
    counts: tuple[int, ...],
    names: tuple[str, ...],
    published: bool,
    before: str,
    after: str,
) -> Descriptions:
    def written(text: str, name: str) -> str:
        if not published and _mentions(text, name):
            return text
        return _described(name, text, before, published) + after

    of_class = [name for name, count in zip(names, counts, strict=True) for _ in range(count)]
    return Descriptions(tuple(map(written, sentences, of_class)), counts)


def _mentions(text: str, name: str) -> bool:
    """Whether a text has the class name in it as words, in the plural too: there is no `ant` in `antlers`."""
    return bool(re.search(rf"(?<!\w){re.escape(readable(name))}(s|es)?(?!\w)", text, re.IGNORECASE))


def _described(name: str, descriptor: str, before: str, published: bool) -> str:
    """A class name with a descriptor, whose verb the published code chooses by the letters that it begins with."""
    if not published:
        return with_descriptor(name, descriptor, before)
    kinds = {"is ": ("a", "used"), "": ("has", "often", "typically", "may", "can")}
    verb = next((verb for verb, starts in kinds.items() if descriptor.startswith(starts)), "has ")
    return f"{before}{readable(name)}, which {verb}{descriptor}"
