"""`vlmadapt merge`."""

from __future__ import annotations

from pathlib import Path

from vlmadapt.cli.parsing import add_backbone, new_parser, parse
from vlmadapt.runs.run import Run

DESCRIPTION = """Write an open_clip checkpoint with a run's adapter in its weights, for use without vlmadapt. Possible
where weights can say what the method does (clip-lora, prolip, mail); others are refused. The scores of the
checkpoint are compared with the run's before it is written."""


def run(arguments: list[str]) -> None:
    """Parse, merge, say how to load it."""
    parser = new_parser("merge", DESCRIPTION)
    parser.add_argument("run", type=str, help="run folder")
    parser.add_argument("--out", type=str, required=True, help="checkpoint to write, NAME.safetensors")
    add_backbone(parser)
    given = parse(parser, arguments)
    Run.open(Path(given.run))  # raises before torch is imported
    from vlmadapt.evaluation.merge import merge

    merged = merge(Path(given.run), Path(given.out), backbone=given.backbone)
    texts = " and ".join(f"'{text}'" for text in merged.templates)
    average = ", the mean of their unit features" if merged.ensemble else ""
    print(f"{merged.file}: describe classes with {texts}{average}.\n{merged.how_to_load}")
