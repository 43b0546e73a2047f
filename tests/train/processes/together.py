"""Real processes for tests: each runs one function, with the variables that torchrun sets."""

import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

COLLAPSE = r"step \d+. the vectors collapse"  # as they do in runs of a few steps
TIMEOUT = 60.0  # seconds; machines of tests are slow


def run_together(task: Callable[..., None], size: int, *args: Any) -> None:
    """Run `task(rank, *args)` in `size` processes; the first error of one is raised here."""
    mp.spawn(_run, (size, _free_port(), task, args), size)


def start_together(
    folder: Path, task: Callable[..., None], size: int, *args: Any
) -> list[BaseProcess]:
    """Start `task(rank, *args)` in `size` processes; their errors go to files in `folder`."""
    port, context = _free_port(), mp.get_context("spawn")
    jobs: list[BaseProcess] = []
    for rank in range(size):
        file = folder / f"rank-{rank}.err"
        jobs.append(context.Process(target=_run_into, args=(file, rank, size, port, task, args)))
        jobs[-1].start()
    return jobs


def _run(rank: int, size: int, port: int, task: Callable[..., None], args: Any) -> None:
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", COLLAPSE)
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    task(rank, *args)


def _run_into(file: Path, *given: Any) -> None:
    with file.open("w") as sys.stderr:
        try:
            _run(*given)
        except BaseException:
            traceback.print_exc()
            raise SystemExit(1) from None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
