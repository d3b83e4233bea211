"""A checkpoint file is preprocessed as the tags of its architecture are, where they agree; else there is a warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from vlmadapt.core.loading.tag_settings import Checkpoint, agreement


@pytest.mark.parametrize(
    ("text", "pretrained", "tag"),
    [
        ("openai", "openai", "openai"),
        ("weights.pt", "weights.pt", None),
        ("openai:weights.pt", "weights.pt", "openai"),
        ("C:\\weights.pt", "C:\\weights.pt", None),
        ("openai:C:\\weights.pt", "C:\\weights.pt", "openai"),
        ("openai:", "openai:", None),
    ],
)
def test_what_follows_the_architecture_is_a_tag_a_file_or_both(text: str, pretrained: str, tag: str | None) -> None:
    assert Checkpoint.parse("ViT-B-16", text) == Checkpoint(pretrained, tag)


def test_a_file_gets_what_all_tags_agree_on() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = Checkpoint.parse("ViT-B-16-SigLIP", "weights.pt").settings("ViT-B-16-SigLIP")
    assert settings["force_preprocess_cfg"] == {
        "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "resize_mode": "squash"
    }  # fmt: skip
    assert settings["force_quick_gelu"] is False


def test_tags_that_differ_are_said_and_can_be_chosen_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.pt").touch()
    with pytest.warns(UserWarning, match=r"tags of ViT-B-16 differ in quick_gelu, .* 'ViT-B-16:TAG:FILE'") as said:
        settings = Checkpoint.parse("ViT-B-16", "weights.pt").settings("ViT-B-16")
    assert len(said) == 1
    assert settings["force_quick_gelu"] is False
    assert settings["force_preprocess_cfg"]["resize_mode"] == "shortest"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoint.parse("ViT-B-16", "openai:weights.pt").settings("ViT-B-16")["force_quick_gelu"] is True


def test_a_file_that_is_missing_is_no_reason_to_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Checkpoint.parse("ViT-B-16", "opena").settings("ViT-B-16")


def test_an_architecture_without_tags_keeps_the_defaults() -> None:
    settings = Checkpoint.parse("ViT-M-16", "weights.pt").settings("ViT-M-16")
    assert settings == {"force_quick_gelu": False, "force_preprocess_cfg": {}}


def test_agreement_tells_values_that_differ_from_values_that_nobody_states() -> None:
    assert agreement([{"a": 1, "b": 2}, {"a": 1, "b": 3}], ("a", "b", "c")) == ({"a": 1}, ["b"])
    assert agreement([{"a": 1}, {}], ("a",)) == ({}, ["a"])
    assert agreement([], ("a",)) == ({}, [])
