"""What decides the numbers of a run beside its settings: versions, threads, device, data."""

import platform
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ecliptic import __version__


class ResumeWarning(UserWarning):
    """A resumed run is not bit for bit what it would have been without the interruption."""


def list_facts(
    device: torch.device, *, processes: int, kind: str, data: str, precision: str, seed: int
) -> dict[str, Any]:
    """Facts to store beside a run; `kind` is how several processes share the weights."""
    return {
        "ecliptic": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "kind": kind if processes > 1 else "alone",
        "precision": precision,
        "seed": seed,
        "data": data,
    }


def find_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Words for facts that differ and make a resumed run differ from an uninterrupted one."""
    found = [
        f"{name} was {before[name]}, is {now[name]}"
        for name in ("torch", "isa", "device", "threads", "processes", "kind")
        if name in before and before[name] != now[name]
    ]
    if before.get("data", now["data"]) != now["data"]:
        found.append("the files of its data have other times, as copies have, or were edited")
    return found
