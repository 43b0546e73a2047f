"""Damaged files are read or refused with a typed error; nothing else comes out of the readers."""

import io
import json
import math
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import save

from ecliptic.errors import CheckpointError
from ecliptic.storage.safetensors_files import read_tensors

from .mutations import (
    Mutant,
    archive_mutants,
    byte_mutants,
    legacy_mutants,
    safetensors_mutants,
    zip_mutants,
)

STATE = {
    "state_dict": OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(3).half()),
    "view": torch.arange(8.0)[::2],
    "counts": Counter({1: 2}),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "small": torch.ones(2).to(torch.float8_e5m2fnuz),
    "steps": [1, 2.5, None, True, "text"],
}


def torch_file(zipped: bool = True, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(STATE, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def script() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated; OpenAI's files remain
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 3)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def safetensors() -> bytes:
    tensors = {"a": torch.ones(2, 3), "b": torch.zeros(4).half(), "c": torch.tensor(4.6)}
    return save(tensors, {"format": "pt"})


CASES: dict[str, tuple[Callable[[], bytes], Callable[[bytes, Random], Iterator[Mutant]]]] = {
    "archive": (torch_file, archive_mutants),
    "archive of protocol 4": (lambda: torch_file(protocol=4), archive_mutants),
    "legacy": (lambda: torch_file(zipped=False), legacy_mutants),
    "safetensors": (safetensors, safetensors_mutants),
    "safetensors bytes": (safetensors, byte_mutants),
    "TorchScript": (script, archive_mutants),
    "zip records": (torch_file, zip_mutants),
}


def read_all(path: Path) -> None:
    """Read every value, as a caller would."""
    file = read_tensors(path)
    for tensor in file.tensors.values():
        assert math.prod(tensor.shape) == tensor.numel()
        torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
    json.dumps({str(name): value for name, value in file.metadata.items()})


def check_mutant(path: Path, mutant: Mutant, name: str) -> None:
    """Write the mutant to `path`; it must be read, or refused with a short typed error."""
    path.write_bytes(mutant.data)
    reason = ""
    try:
        read_all(path)
    except CheckpointError as error:
        reason = str(error)
    except BaseException as error:
        error.add_note(f"{name}: {mutant.what}")
        raise
    assert len(reason) < 5000, (name, mutant.what)


@pytest.mark.parametrize("case", CASES)
def test_c1_c3_c4_c5_every_mutant_is_read_or_refused(tmp_path: Path, case: str) -> None:
    make, mutants = CASES[case]
    path = tmp_path / "weights"
    whole = make()
    path.write_bytes(whole)
    read_all(path)
    for number, mutant in enumerate(islice(mutants(whole, Random(0)), 250)):
        check_mutant(path, mutant, f"mutant {number} of {case}")


def test_mutants_depend_on_the_seed_alone() -> None:
    whole = torch_file()
    first, second, other = (
        [mutant.what for mutant in islice(archive_mutants(whole, Random(seed)), 20)]
        for seed in (1, 1, 2)
    )
    assert first == second != other
