"""Names the processor, so that a measurement is not used on another one."""

import platform
from functools import cache

import torch

from ecliptic.errors import StorageError
from ecliptic.storage import open_regular

_FIELDS = ("model name", "cpu family", "model", "stepping")  # of /proc/cpuinfo
_UNITS = {  # instruction set of /proc/cpuinfo -> its usual name
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX-VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "avx512_fp16": "AVX-512 FP16",
    "amx_tile": "AMX",
}


@cache
def processor() -> str:
    """The processor's name, with family and model, and its instruction sets for matrices."""
    facts = _facts()
    names = [facts[name] for name in _FIELDS if name in facts]
    name = names[0] if names else platform.processor() or platform.machine()
    numbers = f" ({'.'.join(names[1:])})" if len(names) > 1 else ""
    return f"{name}{numbers}, {', '.join(instruction_sets()) or 'no AVX2'}"


@cache
def instruction_sets() -> tuple[str, ...]:
    """The instruction sets that decide how fast matrices are multiplied."""
    flags = _facts().get("flags", "").split()
    found = tuple(name for flag, name in _UNITS.items() if flag in flags)
    return found or (torch.backends.cpu.get_cpu_capability(),)


@cache
def _facts() -> dict[str, str]:
    """The first processor of /proc/cpuinfo; empty on systems without it."""
    facts: dict[str, str] = {}
    try:
        with open_regular("/proc/cpuinfo") as file:
            for line in file:
                name, colon, value = line.decode(errors="replace").partition(":")
                if not colon:
                    break  # an empty line ends the first processor
                facts[name.strip()] = value.strip()
    except (OSError, StorageError):
        return {}
    return facts
