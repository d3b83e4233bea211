"""The package's own namespace."""

from __future__ import annotations

import vlmadapt


def test_dir_lists_the_public_names_and_each_is_there() -> None:
    assert set(vlmadapt.__all__) <= set(dir(vlmadapt))
    assert all(getattr(vlmadapt, name).__name__ == name for name in vlmadapt.__all__)
