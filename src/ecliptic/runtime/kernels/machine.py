"""Names the processor, so that a measurement is not used on another one."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import torch

from ecliptic.errors import StorageError
from ecliptic.storage import open_regular

_BUSY = 1.5  # threads a core
_NUMBERS = ("cpu family", "model", "stepping")  # of /proc/cpuinfo


def is_busy() -> bool:
    """Whether many more threads than there are cores wanted one lately; False if it is not known.

    Those of this program count too: two that compute and one that decodes do not fill two cores.
    """
    try:
        return os.getloadavg()[0] > _BUSY * (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return False


@cache
def processor() -> str:
    """The processor's name and numbers, and the widest instructions that PyTorch uses on it."""
    facts = processor_facts()
    name = facts.get("model name") or platform.processor() or platform.machine()
    numbers = ".".join(facts[name] for name in _NUMBERS if name in facts)
    widest = torch.backends.cpu.get_cpu_capability()
    return f"{name}{f' ({numbers})' if numbers else ''}, {widest}"


@cache
def processor_facts() -> Mapping[str, str]:
    """What Linux says of the first processor in /proc/cpuinfo; empty on other systems."""
    facts: dict[str, str] = {}
    try:
        with open_regular("/proc/cpuinfo") as file:
            for line in file:
                name, colon, value = line.decode(errors="replace").partition(":")
                if not colon:
                    break  # an empty line ends the first processor
                facts[name.strip()] = value.strip()
    except (OSError, StorageError):
        facts.clear()
    return MappingProxyType(facts)
