"""Protocols: who is trained on, who is tested, under which labels, and a manifest that says so."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.data.pictures import dataset, listed
from vlmadapt.core.method import Role
from vlmadapt.data.dataset import Dataset, Example
from vlmadapt.data.fewshot import sample_shots
from vlmadapt.data.splits import Protocol, Splits, base_and_novel, make_splits, manifest, subset
from vlmadapt.errors import DataError

DATA = dataset(6, 2, 6, 6, 3)


def folders(examples: tuple[Example, ...], classes: tuple[str, ...]) -> set[tuple[str, str]]:
    return {(e.path.parent.name, classes[e.label]) for e in examples}


@pytest.mark.parametrize(("n", "base"), [(4, 2), (5, 3), (101, 51)])
def test_first_half_rounded_up_is_base(n: int, base: int) -> None:
    assert base_and_novel(dataset(*[1] * n)) == (tuple(range(base)), tuple(range(base, n)))


def test_three_classes_cannot_be_halved() -> None:
    with pytest.raises(DataError, match=r"3 classes, too few .* --protocol few-shot"):
        base_and_novel(dataset(1, 1, 1))


def test_subset_relabels_by_place() -> None:
    relabelled = subset(listed(1, 1, 1), (2, 0))
    assert [(e.path.parent.name, e.label) for e in relabelled] == [("c0", 1), ("c2", 0)]


def test_base_to_novel() -> None:
    splits = make_splits(DATA, "base-to-novel", 4, seed=1)
    base, novel = splits.groups
    assert splits.classes == base.classes == DATA.classes[:3]
    assert novel.classes == DATA.classes[3:]
    assert [(g.name, g.role) for g in splits.groups] == [("base", "seen"), ("novel", "unseen")]
    assert Counter(e.label for e in splits.train) == {0: 4, 1: 2, 2: 4}
    assert Counter(e.label for e in novel.examples) == {0: 2, 1: 2}
    assert folders(novel.examples, novel.classes) == {("c3", "class 3"), ("c4", "class 4")}
    assert {e.label for e in splits.val} == {0, 1, 2}
    assert splits.short == {"class 1": 2}


def test_few_shot() -> None:
    splits = make_splits(DATA, "few-shot", 4, seed=1)
    (group,) = splits.groups
    assert (group.name, group.role) == ("all", "seen")
    assert splits.classes == group.classes == DATA.classes
    assert group.examples == DATA.test
    assert splits.short == {"class 1": 2, "class 4": 3}


def test_all_classes() -> None:
    splits = make_splits(DATA, "all-classes", None, seed=1)
    (group,) = splits.groups
    assert (group.name, group.role) == ("all", "unknown")
    assert splits.classes == DATA.classes[:3] == group.classes[:3]
    assert group.examples == DATA.test
    assert len(splits.train) == 14


def test_base_shots_are_those_of_a_draw_over_all_classes() -> None:
    # Novel classes come first in the list, so that a draw over base alone would give other images.
    mixed = replace(DATA, train=DATA.train[::-1])
    drawn, _ = sample_shots(mixed.train, 2, seed=3)
    assert make_splits(mixed, "base-to-novel", 2, seed=3).train == tuple(e for e in drawn if e.label < 3)


def test_roles_are_those_of_the_plugin_api() -> None:
    protocols: tuple[Protocol, ...] = ("base-to-novel", "few-shot", "all-classes")
    roles = {group.role for protocol in protocols for group in make_splits(DATA, protocol, 1, 1).groups}
    assert roles == {role.value for role in Role}


def test_unknown_protocol() -> None:
    with pytest.raises(DataError, match="Did you mean 'few-shot'"):
        make_splits(DATA, cast(Any, "fewshot"), 4, seed=1)


def test_nothing_to_test_on() -> None:
    with pytest.raises(DataError, match="no test images of the novel classes"):
        make_splits(replace(DATA, test=DATA.test[:4]), "base-to-novel", 4, seed=1)


def split(data: Dataset = DATA, seed: int = 1) -> Splits:
    return make_splits(data, "base-to-novel", 4, seed)


def test_manifest_is_readable_json() -> None:
    written = json.loads(json.dumps(manifest(split())))
    assert written == manifest(split())
    assert len(written["sha256"]) == 64
    assert written["classes"] == ["class 0", "class 1", "class 2"]
    assert ["train/c1/0.png", 1] in written["train"]
    assert [(g["name"], g["role"], g["examples"][0]) for g in written["test"]] == [
        ("base", "seen", ["test/c0/0.png", 0]),
        ("novel", "unseen", ["test/c3/0.png", 0]),
    ]


def test_manifest_does_not_depend_on_where_the_data_lie() -> None:
    assert manifest(split(dataset(6, 2, 6, 6, 3, root="/elsewhere/data"))) == manifest(split())
    assert manifest(split(dataset(6, 2, 6, 6, 3, root="relative"))) == manifest(split())


def test_hash_changes_with_labels_names_files_and_draw() -> None:
    wrong_label = (replace(DATA.test[0], label=1), *DATA.test[1:])
    renamed = replace(DATA.test[0], path=DATA.test[0].path.with_name("new.png"))
    changed = [
        split(replace(DATA, test=wrong_label)),
        split(replace(DATA, test=(renamed, *DATA.test[1:]))),
        split(replace(DATA, classes=("new name", *DATA.classes[1:]))),
        split(seed=2),
    ]
    hashes = {manifest(s)["sha256"] for s in (split(), *changed)}
    assert len(hashes) == 5
