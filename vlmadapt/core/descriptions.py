"""Class descriptions: several sentences for each class, their mean feature, and a random sentence for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate

import torch
from torch import Tensor

from vlmadapt.errors import DataError
from vlmadapt.text import first_few, readable


@dataclass(frozen=True, eq=False)
class Descriptions:
    """Sentences of a class list, class by class.

    Attributes:
        sentences: (S,) all sentences.
        counts: (classes,) number of sentences of each class, at least 1.
    """

    sentences: tuple[str, ...]
    counts: tuple[int, ...]
    _made: dict[tuple[str, torch.device], Tensor] = field(default_factory=dict, init=False, repr=False)
    _after: dict[tuple[str, tuple[str, ...]], Descriptions] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, by_class: Sequence[Sequence[str]]) -> Descriptions:
        """Descriptions from the sentences of each class."""
        return cls(tuple(text for texts in by_class for text in texts), tuple(len(texts) for texts in by_class))

    @staticmethod
    def from_templates(templates: Sequence[str], names: Sequence[str]) -> Descriptions:
        """Every template written for every class, templates in order; the same object for the same arguments."""
        return _from_templates(tuple(templates), tuple(names))

    def after(self, template: str, names: Sequence[str]) -> Descriptions:
        """Each sentence after a template written for its class, "a photo of a {}, "; the same object each time."""
        key = template, tuple(names)
        if key not in self._after:
            starts = [
                template.replace("{}", readable(name))
                for name, n in zip(names, self.counts, strict=True)
                for _ in range(n)
            ]
            written = tuple(start + sentence for start, sentence in zip(starts, self.sentences, strict=True))
            self._after[key] = Descriptions(written, self.counts)
        return self._after[key]

    def mean(self, features: Tensor) -> Tensor:
        """Mean (classes, d) of the features (S, d) of each class's sentences."""
        if len(set(self.counts)) == 1:
            return features.unflatten(0, (len(self.counts), -1)).mean(1)
        lengths = self._on("counts", features.device, self.counts)
        return torch.segment_reduce(features, "mean", lengths=lengths, unsafe=True)  # `unsafe`: the host checks nothing

    def draw(self, device: torch.device) -> Tensor:
        """Index (classes,) into `sentences` of a random sentence of each class, drawn on the device."""
        counts = self._on("counts", device, self.counts)
        drawn = (torch.rand(len(self.counts), device=device) * counts).long()
        return torch.minimum(drawn, counts - 1) + self.starts(device)

    def draw_number(self, device: torch.device) -> Tensor:
        """A random number () of a sentence, the same for all classes, for `number`; drawn on the device."""
        return (torch.rand((), device=device) * max(self.counts)).long().clamp(max=max(self.counts) - 1)

    def number(self, index: Tensor) -> Tensor:
        """Index (classes,) into `sentences` of sentence `index` () of each class, from its first on if it has fewer."""
        return index % self._on("counts", index.device, self.counts) + self.starts(index.device)

    def starts(self, device: torch.device) -> Tensor:
        """Index (classes,) into `sentences` of the first sentence of each class."""
        return self._on("starts", device, self._starts)

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        return tuple(accumulate(self.counts, initial=0))[:-1]

    def _on(self, name: str, device: torch.device, values: Sequence[int]) -> Tensor:
        """Numbers as a tensor, which is made once for each device."""
        if (name, device) not in self._made:
            with torch.inference_mode(False):
                self._made[name, device] = torch.tensor(values, device=device)
        return self._made[name, device]


@lru_cache(maxsize=16)
def _from_templates(templates: tuple[str, ...], names: tuple[str, ...]) -> Descriptions:
    return Descriptions.of([[t.replace("{}", readable(name)) for t in templates] for name in names])


class ClassDescriptions:
    """The descriptions that a run has, by class name.

    Args:
        sentences: sentences by class name.
    """

    def __init__(self, sentences: Mapping[str, Sequence[str]]):
        self.sentences = sentences
        self._by_key = {_key(name): texts for name, texts in sentences.items()}
        self._made: dict[tuple[str, ...], Descriptions] = {}

    def of(self, names: Sequence[str]) -> Descriptions:
        """Descriptions of a class list; names are found whatever their case, and with underscores for spaces.

        Raises:
            DataError: some classes have none.
        """
        key = tuple(names)
        if key not in self._made:
            missing = [name for name in names if not self._find(name)]
            if missing:
                has = f"{len(self.sentences)} other classes are described" if self.sentences else "none was given"
                raise DataError(
                    f"there are no descriptions of {len(missing)} of {len(names)} classes ({first_few(missing)}); "
                    f"{has}. Give a file that has them with --descriptions FILE; `vlmadapt describe` writes one."
                )
            self._made[key] = Descriptions.of([self._find(name) for name in names])
        return self._made[key]

    def _find(self, name: str) -> Sequence[str]:
        return self.sentences.get(name) or self._by_key.get(_key(name), ())


def _key(name: str) -> str:
    return readable(name).casefold()
