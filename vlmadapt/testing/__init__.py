"""The conformance kit: checks that a method works correctly before anybody uses it.

In a test suite, one test for each check:

    from vlmadapt.testing import conformance

    @conformance("my-method")
    def test_my_method(check):
        check()

On the command line, `vlmadapt plugins check my-method`; from Python, `run_checks(MethodUnderTest("my-method"))`.
Everything runs on a small random CLIP made in memory. A check that a method cannot pass is named, with the reason, in
its class attribute `limitations`, or in `expected_failures` if it depends on options. `check_dataset` and
`check_backbone` check the other plugins.
"""

from vlmadapt.deprecated import deprecated_names
from vlmadapt.testing.backbones import check_backbone
from vlmadapt.testing.checks import CHECKS, checks
from vlmadapt.testing.datasets import check_dataset
from vlmadapt.testing.parametrize import conformance
from vlmadapt.testing.result import Check, CheckFailed, CheckResult, NotApplicable, Status
from vlmadapt.testing.run import run_checks
from vlmadapt.testing.tiny import tiny_clip
from vlmadapt.testing.under_test import MethodUnderTest

__all__ = [
    "CHECKS",
    "Check",
    "CheckFailed",
    "CheckResult",
    "MethodUnderTest",
    "NotApplicable",
    "Status",
    "check_backbone",
    "check_dataset",
    "checks",
    "conformance",
    "run_checks",
    "tiny_clip",
]

__getattr__ = deprecated_names(
    __name__, {"Subject": ("MethodUnderTest", MethodUnderTest), "Outcome": ("CheckResult", CheckResult)}
)
