"""The memory of a loss is that of a few strips and of the gradients."""

import subprocess
import sys

import pytest

# The kernel's peak resident memory, because that of getrusage includes the parent process.
_MEASURE = """
import torch
import torch.nn.functional as F
from ecliptic.train.losses import Distillation, InfoNCE, SigLip

def resident(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith(name))

rows, kind = {rows}, "{kind}"
unit = lambda: F.normalize(torch.randn(rows, 512), dim=-1).requires_grad_()
image, text, scale = unit(), unit(), torch.tensor(4.0, requires_grad=True)
loss = dict(nce=InfoNCE(), sig=SigLip(), kl=Distillation())[kind]
more = dict(nce=dict(), sig=dict(bias=torch.tensor(-10.0)), kl=dict())[kind]
if kind == "kl":
    more = dict(teacher=(unit(), unit(), scale.detach()))
loss(*(v[:64] for v in (image, text)), scale, **more | (
    dict(teacher=(image[:64], text[:64], scale)) if kind == "kl" else dict()
)).backward()  # what torch itself needs
image.grad = text.grad = None
before = resident("VmRSS")
loss(image, text, scale, **more).backward()
print(resident("VmHWM") - before)
"""


def measure(rows: int, kind: str) -> float:
    """MiB over the inputs."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads the peak of memory as Linux tells it")
    code = _MEASURE.format(rows=rows, kind=kind)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(found.stdout)


@pytest.mark.parametrize("kind", ["nce", "sig", "kl"])
def test_memory_is_far_below_that_of_the_matrix(kind: str) -> None:
    tries = (measure(4096, kind) for _ in range(2))  # noise of the allocator only adds
    assert any(found < 100 for found in tries)  # the matrix has 64 MiB, and autograd holds four


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nce", "sig"])
def test_32768_pairs_need_300_megabytes(kind: str) -> None:
    assert measure(32768, kind) * 2**20 < 300e6  # one matrix has 4.3 GB
