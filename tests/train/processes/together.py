"""Real processes for tests: each runs one function, with the variables that torchrun sets."""

import faulthandler
import os
import socket
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.multiprocessing as mp

TIMEOUT = 60.0  # seconds; machines of tests are slow


def run_together(task: Callable[..., None], size: int, *args: Any) -> None:
    """Run `task(rank, *args)` in `size` processes; the first error of one is raised here."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_run, (size, port, task, args), size)


def _run(rank: int, size: int, port: int, task: Callable[..., None], args: Any) -> None:
    faulthandler.enable()
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    os.environ |= variables(rank, size, port)
    task(rank, *args)


def variables(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
