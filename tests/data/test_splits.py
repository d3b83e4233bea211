"""Protocols: who is trained on, who is tested, under which labels, and a manifest that says so."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from tests.data.pictures import dataset, listed
from vlmadapt.data.dataset import UNLABELLED, Dataset, Example
from vlmadapt.data.fewshot import sample_shots
from vlmadapt.data.splits import Protocol, Splits, base_and_novel, group_sha256, make_splits, manifest, subset
from vlmadapt.errors import DataError
from vlmadapt.roles import Role

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
    assert splits.underfull == {"class 1": 2}


def test_without_labels_the_images_of_all_classes_are_trained_on() -> None:
    plain = make_splits(DATA, "base-to-novel", 4, seed=1)
    splits = make_splits(DATA, "base-to-novel", 4, seed=1, unlabelled=True)
    assert splits.classes == DATA.classes
    assert splits.groups == plain.groups
    assert {e.label for e in splits.train} == {UNLABELLED}
    assert {e.path for e in plain.train} < {e.path for e in splits.train}
    assert not splits.val
    assert {e.path for e in splits.train}.isdisjoint(e.path for g in splits.groups for e in g.examples)


def test_images_without_labels_are_those_of_the_data_that_are_tested() -> None:
    with pytest.raises(DataError, match="make a run for each of these: --data TARGET"):
        make_splits(DATA, "cross-dataset", 4, seed=1, targets=[other("pets", "cat", "dog")], unlabelled=True)


def test_few_shot() -> None:
    splits = make_splits(DATA, "few-shot", 4, seed=1)
    (group,) = splits.groups
    assert (group.name, group.role) == ("all", "seen")
    assert splits.classes == group.classes == DATA.classes
    assert group.examples == DATA.test
    assert splits.underfull == {"class 1": 2, "class 4": 3}


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
    assert roles == set(Role)
    assert all(type(role) is Role for role in roles)


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


def other(name: str, *classes: str) -> Dataset:
    return replace(
        dataset(*[2] * len(classes), root=f"/{name}"), name=name, classes=classes, templates=(f"{name} {{}}.",)
    )


def test_cross_dataset() -> None:
    targets = (other("cars", "bus", "van"), other("pets", "cat", "dog", "class 1"))
    splits = make_splits(DATA, "cross-dataset", 4, seed=1, targets=targets)
    assert splits.classes == DATA.classes
    assert [(g.name, g.role, g.classes, g.templates) for g in splits.groups] == [
        ("listed", "seen", DATA.classes, None),
        ("cars", "unseen", ("bus", "van"), ("cars {}.",)),
        ("pets", "unseen", ("cat", "dog", "class 1"), ("pets {}.",)),
    ]
    assert splits.groups[1].examples == targets[0].test
    assert splits.train == make_splits(DATA, "few-shot", 4, seed=1).train


def test_domain_generalization_shows_the_same_classes_as_unseen() -> None:
    # As published: MMRL's and MMRL++'s code answers with class-token logits for ImageNet's variants.
    variant = other("sketch", "class 4", "class 1")
    splits = make_splits(DATA, "domain-generalization", 4, seed=1, targets=[variant])
    assert [(g.name, g.role) for g in splits.groups] == [("listed", "seen"), ("sketch", "unseen")]
    assert splits.groups[1].classes == ("class 4", "class 1")
    with pytest.raises(DataError, match=r"class 'cat' of 'pets' is none of 'listed'.*--protocol cross-dataset"):
        make_splits(DATA, "domain-generalization", 4, seed=1, targets=[other("pets", "cat", "class 1")])


def test_targets_and_protocol_belong_together() -> None:
    with pytest.raises(DataError, match="'cross-dataset' needs data sets to test on: --targets"):
        make_splits(DATA, "cross-dataset", 4, seed=1)
    with pytest.raises(DataError, match="'few-shot' has no targets"):
        make_splits(DATA, "few-shot", 4, seed=1, targets=[other("pets", "cat", "dog")])
    with pytest.raises(DataError, match="two of the data sets are called 'listed'"):
        make_splits(DATA, "cross-dataset", 4, seed=1, targets=[DATA])


def test_data_for_tests_alone_cannot_be_trained_on() -> None:
    with pytest.raises(DataError, match=r"'listed' has no training images; name it as a target: --targets"):
        make_splits(replace(DATA, train=()), "few-shot", 4, seed=1)


def test_a_class_that_is_trained_on_needs_a_training_image() -> None:
    data = replace(DATA, train=tuple(e for e in DATA.train if e.label not in (1, 4)))
    with pytest.raises(DataError, match=r"2 classes \(class 1, class 4\) of 'listed' have no training images"):
        make_splits(data, "few-shot", 4, seed=1)
    with pytest.raises(DataError, match="class 'class 1' of 'listed' has no training images"):
        make_splits(data, "base-to-novel", 4, seed=1)
    unseen = replace(DATA, train=tuple(e for e in DATA.train if e.label != 4))
    assert len(make_splits(unseen, "base-to-novel", 4, seed=1).groups[1].classes) == 2


def test_hash_of_targets() -> None:
    def hashed(*targets: Dataset) -> str:
        return str(manifest(make_splits(DATA, "cross-dataset", 4, 1, targets=targets))["sha256"])

    pets = other("pets", "cat", "dog")
    moved = replace(pets, test=tuple(Example(Path("/mnt/pets", *e.path.parts[2:]), e.label) for e in pets.test))
    described = replace(pets, templates=("a {}, a pet.",))
    assert hashed(pets) == hashed(moved)
    assert len({hashed(pets), hashed(described), hashed(pets, other("cars", "bus", "van"))}) == 3


def test_every_group_has_a_hash_of_its_own() -> None:
    base, novel = split().groups
    told = replace(novel, role=Role.UNKNOWN)
    assert len({group_sha256(base), group_sha256(novel), group_sha256(told)}) == 3
    elsewhere, _ = split(dataset(6, 2, 6, 6, 3, root="/elsewhere/data")).groups
    assert group_sha256(elsewhere) == group_sha256(base)


def test_validation_images_are_drawn_after_the_training_images() -> None:
    data = dataset(6, 6, 6, 6)
    data = replace(data, val=listed(9, 2, 9, 9, split="val"))
    few = make_splits(data, "few-shot", 2, seed=5, val_shots=4)
    assert Counter(e.label for e in few.val) == {0: 2, 1: 2, 2: 2, 3: 2}
    more = make_splits(data, "few-shot", 16, seed=5, val_shots=4)
    assert Counter(e.label for e in more.val) == {0: 4, 1: 2, 2: 4, 3: 4}
    assert more.train == make_splits(data, "few-shot", 16, seed=5).train
    generator = random.Random(5)
    drawn = [sample_shots(part, shots, generator)[0] for part, shots in ((data.train, 2), (data.val, 2))]
    assert [few.train, few.val] == drawn
    assert len(make_splits(data, "few-shot", None, seed=5, val_shots=4).val) == 14
