"""One of several processes that train a method together; writes its final state and its answers to a file.

Started by the check `two-processes`: `python -m vlmadapt.testing.worker NAME OPTIONS MEETING FILE`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from vlmadapt.files import write_tensors
from vlmadapt.testing.training import SHARED_BATCH
from vlmadapt.testing.under_test import MethodUnderTest

STATE, ANSWERS = "state.", "answers"
"""Names in the file."""


def main(name: str, options: str, meeting: str, file: str) -> None:
    """Fit on this process's shard of each batch; the processes find each other through the file `meeting`."""
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    accelerator = Accelerator(cpu=True)
    tested = MethodUnderTest(name, json.loads(options))
    classifier = tested.fit(batch_size=SHARED_BATCH, dropout=False, accelerator=accelerator)
    accelerator.end_training()
    answers = tested.answers(classifier, rank, world)
    state = {f"{STATE}{name}": tensor for name, tensor in classifier.method.state_dict().items()}
    write_tensors(Path(file), {**state, ANSWERS: answers})


if __name__ == "__main__":
    main(*sys.argv[1:])
