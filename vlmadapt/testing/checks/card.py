"""What a method states in its source, compared with what it does."""

from __future__ import annotations

from vlmadapt.core.method import Method
from vlmadapt.core.plan import POOLED, TowerPlan
from vlmadapt.core.side import IMAGE, TEXT
from vlmadapt.core.wrapper import Wrapper
from vlmadapt.errors import PluginError
from vlmadapt.registry import API_VERSION
from vlmadapt.registry.source_info import SourceInfo, read_source_info
from vlmadapt.testing.result import CheckFailed, NotApplicable
from vlmadapt.testing.under_test import MethodUnderTest


def card(tested: MethodUnderTest) -> None:
    """Its source states what listings show: summary, plugin API version, track, and every tower it works inside."""
    cls = tested.cls
    info = _stated(cls)
    if info is None:
        raise NotApplicable("its source cannot be read")
    if not info.summary:
        raise CheckFailed("it has no docstring.", "say in its first line what it does; listings show that line.")
    if all("api_version" not in vars(base) for base in cls.__mro__[: cls.__mro__.index(Method)]):
        raise CheckFailed(
            "it does not state the plugin API version it is written for.", f"write `api_version = {API_VERSION}`."
        )
    _check_readable(info, cls)
    _check_touches(tested)
    if cls.track == "few-shot" and not issubclass(cls, Wrapper) and _uses_test_images(tested.trained.method):
        raise CheckFailed(
            "it uses test images, or views of them, and stands in the track 'few-shot'.",
            'write `track = "test-time"`: tables of comparisons keep it apart from methods that use none.',
        )


def _check_readable(info: SourceInfo, cls: type[Method]) -> None:
    """What is read in the source is what the class has."""
    stated = {
        "paper": (info.paper, cls.paper),
        "touches": (set(info.touches), {side.value for side in cls.touches}),
        "track": (info.track, cls.track),
        "learns": (info.learns, cls.learns),
        "limitations": (info.limitations, dict(cls.limitations)),
        "api_version": (info.api_version, cls.api_version),
    }
    for name, (read, real) in stated.items():
        if read != real:
            raise CheckFailed(f"`{name}` reads {read!r} in the source, but is {real!r}.")


def _check_touches(tested: MethodUnderTest) -> None:
    """The towers that it states are those that it works inside."""
    cls, method, touched = tested.cls, tested.trained.method, _touched(tested)
    for side in sorted(touched - set(method.touches)):
        raise CheckFailed(
            f"it works inside the {side} tower and does not say so.",
            f"put {side.upper()} into `touches`: a backbone without access to that tower is then refused at once.",
        )
    for side in sorted(set(cls.touches) - touched):
        if not tested.options and method.touches is cls.touches:
            raise CheckFailed(
                f"it says that it works inside the {side} tower and does not.",
                f"leave {side.upper()} out of `touches`: backbones are refused for it without need.",
            )


def _uses_test_images(method: Method) -> bool:
    return method.streams or method.test_views > 1


def _stated(cls: type[Method]) -> SourceInfo | None:
    if "<locals>" in cls.__qualname__:
        return None
    try:
        return read_source_info(f"{cls.__module__}:{cls.__qualname__}")
    except PluginError:  # a class of a script or a notebook
        return None


def _touched(tested: MethodUnderTest) -> set[str]:
    plan = tested.trained.forward(tested.shots().images[:1], ("cat",)).plan
    towers = ((TEXT, plan.text, tested.backbone.text), (IMAGE, plan.image, tested.backbone.image))
    return {side for side, tower, frozen in towers if tower.first < frozen.depth or _reads_inside(tower)}


def _reads_inside(tower: TowerPlan) -> bool:
    """Whether a head reads or projects other than the tower itself does."""
    return bool(set(tower.heads) - {POOLED}) or tower.heads[POOLED].project is not None
