"""Conformance checks of a registered data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from vlmadapt.data.dataset import Dataset
from vlmadapt.data.duplicates import conflicting, kinds_of
from vlmadapt.data.images import broken_images
from vlmadapt.data.registered import find_source, load_registered, require_root
from vlmadapt.testing.result import CheckFailed, CheckResult, NotApplicable, PluginCheck, results_of
from vlmadapt.text import counted, first_few


class DatasetUnderTest:
    """A registered data set, loaded when the first check needs it.

    Args:
        name: registered name.
        root: folder of the data sets; by default `$VLMADAPT_DATA`.
    """

    def __init__(self, name: str, root: Path | None = None):
        self.name = name
        self.root = root

    @cached_property
    def data(self) -> Dataset:
        """The data set."""
        return load_registered(self.name, self.root)

    @property
    def parts(self) -> dict[str, list[Path]]:
        """Paths by part."""
        found = {"train": self.data.train, "val": self.data.val, "test": self.data.test}
        return {part: [example.path for example in examples] for part, examples in found.items()}


def loads(tested: DatasetUnderTest) -> None:
    """It loads, and the second time lists the same images in the same order."""
    if load_registered(tested.name, tested.root) != tested.data:
        raise CheckFailed("it is another data set the second time.", "sort the files that a folder lists.")


def counts(tested: DatasetUnderTest) -> None:
    """Classes and images are as many as published."""
    expected = find_source(tested.name).expected
    if not expected:
        raise NotApplicable("it states no published counts (`DataSource.expected`)")
    found = {"classes": len(tested.data.classes), **{part: len(paths) for part, paths in tested.parts.items()}}
    wrong = [f"{found[part]} instead of {n} ({part})" for part, n in expected.items() if found[part] != n]
    if wrong:
        raise CheckFailed(f"it has {', '.join(wrong)}.", "look for files that were not unpacked, or listed twice.")


def classes(tested: DatasetUnderTest) -> None:
    """Every class has a name of its own and test images; every label is that of a class."""
    data = tested.data
    labels = {example.label for example in data.examples}
    if wrong := labels - set(range(len(data.classes))):
        raise CheckFailed(f"labels {first_few(sorted(map(str, wrong)))} are not those of {len(data.classes)} classes.")
    if empty := [i for i, name in enumerate(data.classes) if not name.strip()]:
        raise CheckFailed(f"class {empty[0]} (from 0) has no name.")
    if twice := [name for name, count in Counter(data.classes).items() if count > 1]:
        raise CheckFailed(f"several classes are called '{twice[0]}'.", "a text cannot tell them apart; rename one.")
    for part, examples in (("training", data.train), ("test", data.test)):
        missing = [data.classes[i] for i in set(range(len(data.classes))) - {example.label for example in examples}]
        if examples and missing:
            raise CheckFailed(f"no {part} images of {first_few(missing)}.", "leave out classes without images.")
    if not data.test:
        raise CheckFailed("it has no test images.")


def templates(tested: DatasetUnderTest) -> None:
    """Every template has one place for the class name."""
    if not tested.data.templates:
        raise CheckFailed("it has no templates.", "give at least one, such as 'a photo of a {}.'.")
    for template in tested.data.templates:
        if template.count("{}") != 1:
            raise CheckFailed(f"'{template}' has no place, or several, for the class name.", "write `{}` once.")


def splits(tested: DatasetUnderTest) -> None:
    """No file is listed twice, and no image is both trained on and tested, under any name."""
    where: dict[Path, str] = {}
    for part, paths in tested.parts.items():
        for path in paths:
            if path in where:
                raise CheckFailed(f"'{path}' is listed in {where[path]} and {part}.", "each file belongs to one part.")
            where[path] = part
    data = tested.data
    copies = conflicting(kinds_of(data.train, data.val, data.test))
    if copies:
        names = " and ".join(f"'{path}'" for path in copies[0])
        raise CheckFailed(f"{names} are the same image, in two parts or two classes ({counted(len(copies), 'case')}).")


def images(tested: DatasetUnderTest) -> None:
    """Every image can be decoded."""
    broken = broken_images(tested.data.examples)
    if broken:
        cause = next(iter(broken.values()))
        raise CheckFailed(f"{counted(len(broken), 'image')} cannot be read: {cause}")


CHECKS = (
    PluginCheck("loads", loads, "return a `Dataset`; list files that exist.", basic=True),
    PluginCheck("counts", counts, "state what is published, or correct the reader."),
    PluginCheck("classes", classes, "number labels from 0 in the order of `classes`."),
    PluginCheck("templates", templates, "write `{}` once in each template."),
    PluginCheck("splits", splits, "remove one of them."),
    PluginCheck("images", images, "remove or repair these files.", slow=True),
)


def check_dataset(name: str, root: Path | None = None, *, quick: bool = False) -> Iterator[CheckResult]:
    """Run the checks of a data set one by one and yield each result.

    Args:
        name: registered name.
        root: folder of the data sets.
        quick: decode no images.

    Raises:
        DataError: the data set needs a data root and none is given.
    """
    require_root(name, find_source(name), root)
    return results_of([check for check in CHECKS if not (quick and check.slow)], DatasetUnderTest(name, root))
