"""What decides the speed of a machine: processor, instruction sets, threads, device."""

import os
import platform
from dataclasses import dataclass

import torch

from ecliptic.runtime import processor_facts

_SETS = {  # what kernels use -> names in the flags of Linux; x86, then ARM
    "x86": {
        "AVX2": {"avx2"},
        "AVX-512": {"avx512f"},
        "VNNI": {"avx512_vnni", "avx_vnni"},
        "bf16": {"avx512_bf16"},
        "fp16": {"avx512_fp16"},
        "AMX": {"amx_tile"},
    },
    "ARM": {
        "NEON": {"asimd"},
        "dot products": {"asimddp"},
        "int8": {"i8mm"},
        "bf16": {"bf16"},
        "SVE": {"sve"},
    },
}


@dataclass(frozen=True)
class MachineFacts:
    """One machine, as far as its speed depends on it."""

    processor: str
    instructions: tuple[str, ...]  # sets that kernels of torch can use; empty if not known
    lacking: tuple[str, ...]  # those of the same family that it does not have
    torch_uses: str  # the widest set that torch's own loops use here: "AVX2", "DEFAULT", ...
    cores: int  # that this process may use
    threads: int  # that torch uses
    torch: str  # its version
    device: str  # "cpu", "cuda:0"
    accelerator: str  # its name and the version of its platform; "" on CPU
    load: float | None  # programs that used or wanted a core before; None if not known

    @property
    def busy(self) -> bool:
        """Whether other programs used more than half of the cores before."""
        return self.load is not None and self.load > self.cores / 2


def read_load() -> float | None:
    """The number of programs that used or wanted a core, averaged over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def describe_machine(device: torch.device, load: float | None = None) -> MachineFacts:
    """The machine that this process runs on; `load` is that of `read_load` at some time."""
    facts = processor_facts()
    has, lacks = _sort_instructions(facts.get("flags") or facts.get("Features") or "")
    affinity = getattr(os, "sched_getaffinity", None)
    return MachineFacts(
        processor=facts.get("model name") or platform.processor() or platform.machine(),
        instructions=has,
        lacking=lacks,
        torch_uses=torch.backends.cpu.get_cpu_capability(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
        device=str(device),
        accelerator=_name_accelerator(device),
        load=load,
    )


def _sort_instructions(flags: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The sets that are there and those that are not, of the family that has the most of them."""
    given = set(flags.split())
    found = {
        family: [name for name, marks in sets.items() if marks & given]
        for family, sets in _SETS.items()
    }
    family = max(found, key=lambda one: len(found[one]))
    if not found[family]:
        return (), ()
    return tuple(found[family]), tuple(n for n in _SETS[family] if n not in found[family])


def _name_accelerator(device: torch.device) -> str:
    if device.type == "cpu":
        return ""
    name = getattr(torch.get_device_module(device), "get_device_name", None)
    platform_version = f", CUDA {torch.version.cuda}" if torch.version.cuda else ""
    return (name(device) if name else device.type) + platform_version
