"""Old public names: they work, they warn at the caller's line, and they never win over the new ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest

from vlmadapt import plugin
from vlmadapt.deprecated import deprecated_names, renamed_arguments, warn_deprecated

ERROR = pytest.mark.filterwarnings("error")


@renamed_arguments(old="new", older="newer")
def sample(new: int = 0, *, newer: int = 0) -> tuple[int, int]:
    """A sample."""
    return new, newer


def warned(call: Callable[[], object]) -> warnings.WarningMessage:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        call()
    (found,) = seen
    return found


def test_a_warning_says_what_to_write() -> None:
    found = warned(lambda: warn_deprecated("a", "b"))
    assert found.category is DeprecationWarning
    assert str(found.message) == "a is deprecated; write b."


def test_an_argument_by_its_old_name_is_taken_with_a_warning_here() -> None:
    found = warned(lambda: sample(old=1))  # type: ignore[call-arg]
    assert str(found.message) == "sample(old=...) is deprecated; write sample(new=...)."
    assert found.filename == __file__
    with pytest.warns(DeprecationWarning):
        assert sample(old=1, older=2) == (1, 2)  # type: ignore[call-arg]


@ERROR
def test_new_names_do_not_warn() -> None:
    assert sample(1, newer=2) == (1, 2)
    assert sample.__name__ == "sample"
    assert sample.__doc__ == "A sample."


def test_an_argument_by_both_names_is_refused() -> None:
    with pytest.raises(TypeError, match=r"sample\(\) got 'new' and its old name 'old'"):
        sample(old=1, new=2)  # type: ignore[call-arg]


def test_a_module_gives_old_names_with_a_warning_here() -> None:
    value = object()
    lookup = deprecated_names("some.module", {"Old": ("New", value)})
    found = warned(lambda: lookup("Old"))
    assert str(found.message) == "some.module.Old is deprecated; write some.module.New."
    assert found.filename == __file__
    with pytest.warns(DeprecationWarning):
        assert lookup("Old") is value
    with pytest.raises(AttributeError, match=r"module 'some\.module' has no attribute 'Missing'"):
        lookup("Missing")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Forward", "ForwardPass"),
        ("Term", "LossTerm"),
        ("worded_tokens", "tokens_from_text"),
        ("copies", "clone_linear"),
        ("block_indices", "zero_based"),
    ],
)
def test_names_of_plugin_api_1_are_those_of_2(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"vlmadapt.plugin.{old} is deprecated"):
        assert getattr(plugin, old) is getattr(plugin, new)
    assert old not in plugin.__all__
    assert new in plugin.__all__
