"""Peak memory of loading a model, beside the bytes of its weights: `python -m tests.engine.peaks`.

Every line of the input is JSON: the keyword arguments of `load`. Every line of the output is by how
much the peak grows when the model is loaded, all its weights are read and a text is encoded. With
"file", the path of an int8 file, an image is encoded too, the weights are not read, and the unit is
the bytes of the file. The kernel forgets the peak of this process before each; Linux only.
MALLOC_MMAP_THRESHOLD_ must be set to a small number, so that tensors which are freed leave no
memory behind for the next ones.
"""

import gc
import json
import sys
from pathlib import Path

import numpy as np

from ecliptic import load

IMAGE = np.zeros((32, 32, 3), dtype=np.uint8)


def peak() -> int:
    """The peak of the resident memory of this process, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def measure(file: str | None = None, **how: object) -> float:
    """Load a model, use all of it, and return by how much the peak grew, in bytes of weights."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = peak()
    clip = load(**how)  # type: ignore[arg-type]
    if file is not None:
        clip.encode_text(["a photo of a cat"])
        clip.encode_image([IMAGE])
        return (peak() - before) / Path(file).stat().st_size
    weights = clip.model.state_dict().values()
    for weight in weights:
        weight.max()
    clip.encode_text(["a photo of a cat"])
    return (peak() - before) / sum(weight.nbytes for weight in weights)


if __name__ == "__main__":
    load("mini").encode_text(["a cat"])  # imports and tables
    for line in sys.stdin:
        measure(**json.loads(line))  # PyTorch keeps programs and buffers for these sizes
        print(measure(**json.loads(line)), flush=True)
