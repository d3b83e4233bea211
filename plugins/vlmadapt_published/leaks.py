"""Methods whose published numbers were selected on test images, as their official code shows."""

from __future__ import annotations

from vlmadapt.plugin import Leak

GRID = "the published code searches its hyperparameters for ImageNet on the test images"
LEAKS = (
    ("tip-adapter", GRID, "gaopengcuhk/Tip-Adapter"),
    (
        "tip-adapter-f",
        "the published code keeps the epoch that is best on the test images",
        "gaopengcuhk/Tip-Adapter, issue 11",
    ),
    ("ape", GRID, "yangyangyang127/APE"),
    ("ape-t", f"{GRID}, and keeps the best epoch there", "yangyangyang127/APE"),
    ("gda", "the published code chooses alpha for ImageNet on the test images", "mrflogs/ICLR24, main_few_shots.py"),
    ("gda-unseen", "the published code chooses alpha for ImageNet on test images", "mrflogs/ICLR24"),
    (
        "promptkd",
        "the published code keeps the epoch that is best on the test images of the base classes",
        "zhengli97/PromptKD, TEST.FINAL_MODEL in configs/trainers/PromptKD, and datasets/caltech101.py",
    ),
    ("mmrl++", "the published code sets beta per target data set in tests", "yunncheng/MMRL, trainer/config.py"),
)


def known_leaks() -> tuple[Leak, ...]:
    """What published numbers of methods knew of the images or data that they are tested on."""
    return tuple(Leak(*leak) for leak in LEAKS)
