"""One of several processes that train a method together; prints a hash of what it ends with.

Started by the check `two-processes`: `python -m vlmadapt.testing.worker NAME OPTIONS`.
"""

from __future__ import annotations

import hashlib
import json
import sys

from accelerate import Accelerator

from vlmadapt.testing.subject import Subject


def main(name: str, options: str) -> None:
    """Fit on this process's share of each batch."""
    accelerator = Accelerator(cpu=True)
    # Batches of three images on two processes: shares of two and one.
    method = Subject(name, json.loads(options)).fit(batch_size=3, accelerator=accelerator).method
    digest = hashlib.sha256()
    for key, value in sorted(method.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    accelerator.end_training()
    print(digest.hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
