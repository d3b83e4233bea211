"""The checks as pytest tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from vlmadapt.testing.checks import checks
from vlmadapt.testing.result import Check, CheckFailed, NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest

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
    """Parametrise a test over the checks of the kit; the test calls its argument `check`.

    Args:
        method: registered name, or the class itself.
        options: options of the method.
        backbone: backbone to run on; by default `tiny_clip()`.
        expected_failures: names of checks with reasons, in addition to the method's own `limitations`.
        quick: leave out checks that start processes.

    Raises:
        PluginError: the method does not exist, or an expected failure is not the name of a check.
    """
    import pytest

    tested = MethodUnderTest(method, options, backbone)
    expected = {**tested.cls.limitations_for(tested.config), **(expected_failures or {})}
    params = []
    for check in checks(quick=quick, expected=expected):
        reason = expected.get(check.name)
        marks = () if reason is None else (pytest.mark.xfail(reason=reason, raises=CheckFailed, strict=True),)
        params.append(pytest.param(partial(_run, check, tested), id=check.name, marks=marks))
    return pytest.mark.parametrize("check", params)


def _run(check: Check, tested: MethodUnderTest) -> None:
    import pytest

    run: Callable[[MethodUnderTest], None] = check
    try:
        run(tested)
    except NotApplicable as reason:
        pytest.skip(str(reason))
