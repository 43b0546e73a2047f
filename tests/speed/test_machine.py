"""The machine is named with what decides its speed, also where Linux's files are missing."""

import os
import sys
import time

import pytest
import torch

from ecliptic.speed import machine, memory

CPU = torch.device("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="facts are read from /proc")
def test_this_machine_is_named() -> None:
    facts = machine.describe_machine(CPU)
    assert facts.processor
    assert facts.instructions
    assert not set(facts.instructions) & set(facts.lacking)
    assert facts.cores >= 1
    assert facts.accelerator == ""
    assert facts.torch == torch.__version__


def test_a_machine_with_other_work_is_busy() -> None:
    cores = machine.describe_machine(CPU).cores
    assert machine.describe_machine(CPU, load=cores * 0.6).busy
    assert not machine.describe_machine(CPU, load=cores * 0.4).busy
    assert not machine.describe_machine(CPU, load=None).busy
    if hasattr(os, "getloadavg"):
        assert (machine.read_load() or 0) >= 0
    else:
        assert machine.read_load() is None


@pytest.mark.parametrize(
    ("flags", "has", "lacks"),
    [
        ("fpu avx avx2 fma", ("AVX2",), ("AVX-512", "VNNI", "bf16", "fp16", "AMX")),
        ("avx2 avx_vnni", ("AVX2", "VNNI"), ("AVX-512", "bf16", "fp16", "AMX")),
        (
            "avx2 avx512f avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8",
            ("AVX2", "AVX-512", "VNNI", "bf16", "fp16", "AMX"),
            (),
        ),
        ("fp asimd asimddp i8mm bf16", ("NEON", "dot products", "int8", "bf16"), ("SVE",)),
        ("sse2", (), ()),
    ],
)
def test_instruction_sets_are_those_of_one_family(
    flags: str, has: tuple[str, ...], lacks: tuple[str, ...]
) -> None:
    assert machine._sort_instructions(flags) == (has, lacks)


def test_without_the_files_of_linux_nothing_is_invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ecliptic.speed.memory.Path.exists", lambda path: False)
    monkeypatch.setattr(machine, "processor_facts", dict)
    facts = machine.describe_machine(CPU)
    assert (facts.instructions, facts.lacking) == ((), ())
    assert facts.torch_uses == torch.backends.cpu.get_cpu_capability()
    assert memory.resident() is None
    with memory.MemoryWatch(CPU) as watch:
        watch.note_loaded()
    assert watch.uses() == ()


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_peak_between_two_looks_of_ours_is_seen() -> None:
    before = memory.resident() or 0
    with memory.MemoryWatch(CPU) as watch:
        watch.note_loaded()
        block = torch.ones(64 << 18)  # 64 MiB, written
        assert block.sum() > 0
        patience = time.monotonic() + 10  # the other thread may have to wait for a core
        while (watch._peak or 0) < before + (48 << 20) and time.monotonic() < patience:
            time.sleep(0.01)
        del block
    (use,) = watch.uses()
    assert use.peak >= use.before + (48 << 20)
