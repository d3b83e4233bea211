"""The checks as tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from vlmadapt.testing.checks import checks
from vlmadapt.testing.result import Check, CheckFailed, NotApplicable
from vlmadapt.testing.under_test import Subject

if TYPE_CHECKING:
    import pytest

    from vlmadapt.core.backbone import Backbone
    from vlmadapt.core.method import Method


def conformance(
    method: str | type[Method],
    *,
    options: Mapping[str, Any] | None = None,
    backbone: Backbone | None = None,
    expected_failures: Mapping[str, str] | None = None,
    quick: bool = False,
) -> pytest.MarkDecorator:
    """Make a test with a parameter `check` out of each check; the test calls it.

    Args:
        method: registered name, or the class itself.
        options: of the method.
        backbone: to run on; by default `tiny_clip()`.
        expected_failures: check and reason, beside the method's own `limitations`.
        quick: leave out what starts processes.

    Raises:
        PluginError: there is no such method, or an expected failure names no check.
    """
    import pytest

    subject = Subject(method, options, backbone)
    expected = {**subject.cls.limitations, **(expected_failures or {})}
    params = []
    for check in checks(quick=quick, expected=expected):
        reason = expected.get(check.name)
        marks = () if reason is None else (pytest.mark.xfail(reason=reason, raises=CheckFailed, strict=True),)
        params.append(pytest.param(partial(_run, check, subject), id=check.name, marks=marks))
    return pytest.mark.parametrize("check", params)


def _run(check: Check, subject: Subject) -> None:
    import pytest

    run: Callable[[Subject], None] = check
    try:
        run(subject)
    except NotApplicable as reason:
        pytest.skip(str(reason))
