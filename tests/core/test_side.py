"""The names of the two towers."""

from __future__ import annotations

from vlmadapt.core.side import IMAGE, TEXT, Side


def test_a_side_is_a_word() -> None:
    assert f"{TEXT} {IMAGE}" == "text image"
    assert Side("text") is TEXT
    assert TEXT != IMAGE
