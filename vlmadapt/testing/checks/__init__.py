"""What is asked of a method; one idea per file."""

from __future__ import annotations

from collections.abc import Iterable

from vlmadapt.errors import PluginError, unknown
from vlmadapt.testing.checks.backbone import backbone_untouched
from vlmadapt.testing.checks.batches import image_counts, one_image
from vlmadapt.testing.checks.card import card
from vlmadapt.testing.checks.classes import added_class, class_order, one_class, unseen_classes
from vlmadapt.testing.checks.config import config
from vlmadapt.testing.checks.fits import fits
from vlmadapt.testing.checks.gradients import gradients
from vlmadapt.testing.checks.manners import no_global_state, no_network, quiet
from vlmadapt.testing.checks.memory import memory
from vlmadapt.testing.checks.names import long_names
from vlmadapt.testing.checks.plans import plans_agree
from vlmadapt.testing.checks.precision import bf16
from vlmadapt.testing.checks.processes import two_processes
from vlmadapt.testing.checks.roles import roles
from vlmadapt.testing.checks.seeds import deterministic
from vlmadapt.testing.checks.state import saves_and_loads
from vlmadapt.testing.result import Check

BATCH_MEND = "let each image be answered by itself: reduce over tokens or classes, not over the batch (dim 0)."
CLASSES_MEND = "keep nothing that derives from class names: read them from the forward pass (`x.names`, `x.text()`)."

CHECKS = (
    Check("fits", fits, "run its `build`, `losses` and `route` in a debugger; every other check builds on this one."),
    Check("config", config, "make `Config` a dataclass of plain, documented values with defaults."),
    Check("card", card, "write `touches`, `paper`, `limitations` and `api_version` as plain values in the class."),
    Check("gradients", gradients, "take the parameter out, or let a loss term depend on it."),
    Check("backbone-untouched", backbone_untouched, "use hooks; train only tensors of your own, copies where needed."),
    Check("deterministic", deterministic, "draw random numbers with torch alone, and in a fixed order."),
    Check("saves-and-loads", saves_and_loads, "keep all that decides an answer in parameters or registered buffers."),
    Check("unseen-classes", unseen_classes, CLASSES_MEND),
    Check("class-order", class_order, CLASSES_MEND),
    Check(
        "added-class",
        added_class,
        "score each class by itself, without sums over classes; else name it as a limitation.",
    ),
    Check("one-class", one_class, "look for a variance over classes, or a split of them, that one class makes empty."),
    Check("long-names", long_names, "count tokens with the tower's own tokenizer, or leave that to templates."),
    Check("one-image", one_image, "look for a mean, a variance or a squeeze that a batch of one makes degenerate."),
    Check("image-counts", image_counts, BATCH_MEND),
    Check(
        "bf16", bf16, "do sums, logarithms and normalisation in float32 (`.float()`), and create no tensor by dtype."
    ),
    Check("plans-agree", plans_agree, "let a branch map each token by itself, and declare all that it depends on."),
    Check("quiet", quiet, "take out `print`; what should be seen is a named loss term."),
    Check("no-network", no_network, "take data from the support set, weights from the backbone."),
    Check("no-global-state", no_global_state, "put settings on the method; `fit` seeds, the method only draws."),
    Check("roles", roles, "let `route` answer for seen, unseen and unknown classes alike, (images, classes) each."),
    Check("memory", memory, "keep `value.detach()` of what you keep, and only as much as is used."),
    Check(
        "two-processes", two_processes, "call the trainer equally often on every process, whatever its images.", True
    ),
)


def checks(*, quick: bool = False, expected: Iterable[str] = ()) -> list[Check]:
    """The checks in the order they are best read in.

    Args:
        quick: leave out those that start processes.
        expected: names of expected failures.

    Raises:
        PluginError: an expected failure is the name of no check.
    """
    known = {check.name for check in CHECKS}
    for name in expected:
        if name not in known:
            raise PluginError(unknown("check in limitations", name, known))
    return [check for check in CHECKS if not (quick and check.slow)]
