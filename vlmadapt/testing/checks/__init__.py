"""The checks of the conformance kit; one idea per file."""

from __future__ import annotations

from collections.abc import Iterable

from vlmadapt.errors import PluginError, unknown
from vlmadapt.testing.checks.backbone import backbone_untouched
from vlmadapt.testing.checks.batches import image_counts, one_image
from vlmadapt.testing.checks.card import card
from vlmadapt.testing.checks.changes import keeps_up
from vlmadapt.testing.checks.classes import added_class, class_order, one_class, unseen_classes
from vlmadapt.testing.checks.config import config
from vlmadapt.testing.checks.devices import one_device
from vlmadapt.testing.checks.fits import fits
from vlmadapt.testing.checks.gradients import gradients
from vlmadapt.testing.checks.hook_names import hook_names
from vlmadapt.testing.checks.host_waits import no_host_waits
from vlmadapt.testing.checks.manners import no_global_state, no_network, quiet
from vlmadapt.testing.checks.memory import memory
from vlmadapt.testing.checks.names import long_names
from vlmadapt.testing.checks.plans import plans_agree
from vlmadapt.testing.checks.precision import bf16
from vlmadapt.testing.checks.processes import two_processes
from vlmadapt.testing.checks.roles import roles
from vlmadapt.testing.checks.seeds import deterministic
from vlmadapt.testing.checks.state import saves_and_loads
from vlmadapt.testing.checks.streams import streams
from vlmadapt.testing.result import FITS, Check

BATCH_HINT = (
    "score each image on its own: reduce over tokens or classes, not over the batch (dim 0); if an answer is meant to "
    "depend on the images before it, set `streams = True`."
)
CLASSES_HINT = "keep nothing that derives from class names: read them from the pass (`fwd.names`, `fwd.text()`)."

CHECKS = (
    Check(
        FITS,
        fits,
        "change what the message names; if it names nothing of yours, run `build`, `losses` and `route` in a debugger. "
        "Every other check builds on this one.",
    ),
    Check("config", config, "make `Config` a dataclass of plain, documented values with defaults."),
    Check("card", card, "write `touches`, `paper`, `limitations` and `api_version` as plain values in the class."),
    Check("hook-names", hook_names, "rename it; or, if it is no hook, call it something else."),
    Check("gradients", gradients, "remove the parameter, or let a loss term depend on it."),
    Check(
        "backbone-untouched",
        backbone_untouched,
        "use hooks; train your own tensors, and copies where needed.",
    ),
    Check("deterministic", deterministic, "draw random numbers with torch alone, and in a fixed order."),
    Check("saves-and-loads", saves_and_loads, "keep all that affects scores in parameters or registered buffers."),
    Check("keeps-up", keeps_up, "compute what depends on parameters in `hooks`, `losses` and `route`; keep no result."),
    Check("unseen-classes", unseen_classes, CLASSES_HINT),
    Check("class-order", class_order, CLASSES_HINT),
    Check(
        "added-class",
        added_class,
        "score each class on its own, without sums over classes; otherwise name it as a limitation.",
    ),
    Check("one-class", one_class, "look for a variance over classes, or a split of them, that one class leaves empty."),
    Check("long-names", long_names, "count tokens with the tower's tokenizer, or leave that to templates."),
    Check("one-image", one_image, "look for a mean, a variance or a squeeze that degenerates with a batch of one."),
    Check("image-counts", image_counts, BATCH_HINT),
    Check(
        "bf16",
        bf16,
        "compute sums, logarithms and norms in float32 (`.float()`); fix no dtype for new tensors.",
    ),
    Check(
        "plans-agree",
        plans_agree,
        "let a block adapter map each token on its own; declare all that it depends on.",
    ),
    Check("quiet", quiet, "remove `print`; log a value as a named loss term."),
    Check("no-network", no_network, "take data from the support set and weights from the backbone."),
    Check(
        "no-global-state",
        no_global_state,
        "keep settings on the method; `fit` seeds, the method only draws.",
    ),
    Check("roles", roles, "let `route` return (images, classes) for seen, unseen and unknown classes alike."),
    Check(
        "streams",
        streams,
        "keep what a stream changes in buffers that `stream_start` makes (`register_buffer(..., persistent=False)`).",
    ),
    Check(
        "one-device",
        one_device,
        "register tensors that `build` makes as buffers, and make others where the data are (`device=fwd.device`, "
        "`x.new_zeros`).",
    ),
    Check(
        "no-host-waits",
        no_host_waits,
        "keep values on the device, or set `dynamic_step = True` if the step has to differ between steps.",
    ),
    Check("memory", memory, "detach the tensors you keep (`value.detach()`), and keep only as many as you use."),
    Check(
        "two-processes", two_processes, "call the trainer equally often in every process, whatever its images.", True
    ),
)


def checks(*, quick: bool = False, expected: Iterable[str] = ()) -> list[Check]:
    """All checks, the most basic first.

    Args:
        quick: leave out checks that start processes.
        expected: names of expected failures.

    Raises:
        PluginError: an expected failure is not the name of a check.
    """
    known = {check.name for check in CHECKS}
    for name in expected:
        if name not in known:
            raise PluginError(unknown("check in limitations", name, known))
    return [check for check in CHECKS if not (quick and check.slow)]
