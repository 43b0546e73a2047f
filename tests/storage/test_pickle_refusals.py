"""Malicious and damaged files are refused with a reason, and nothing in them runs."""

import io
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.errors import (
    CheckpointError,
    CorruptFileError,
    UnsafeFileError,
)
from ecliptic.storage import budget
from ecliptic.storage.budget import Budget
from ecliptic.storage.pickled import pickles, zip_archive
from ecliptic.storage.pickled.torch_files import read_torch

from .archives import archive, small


class Calls:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile_pickles(canary: str) -> Iterator[tuple[str, bytes]]:
    """The usual ways to run code from a pickle; each would create `canary`."""
    command = f"touch {canary}".encode()
    text = f"open({canary!r}, 'w')".encode()
    for protocol in range(6):
        yield f"system{protocol}", pickle.dumps(Calls(os.system, command.decode()), protocol)
        yield f"eval{protocol}", pickle.dumps(Calls(eval, text.decode()), protocol)
    yield (
        "getattr",
        pickle.dumps(Calls(getattr, 1, "real")),
    )
    yield "open", pickle.dumps(Calls(open, canary, "w"))
    yield "numpy", b"cnumpy\nload\n(X\x01\x00\x00\x00xtR."
    yield "inst", b"(S'" + command + b"'\nios\nsystem\n."
    yield "obj", b"(cos\nsystem\nS'" + command + b"'\no."
    yield "extension", b"\x82\x01."
    yield "newobj_ex", b"\x80\x04ccollections\nOrderedDict\n)}\x92."
    yield "stack_global", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01x\x85R."
    yield "dotted", b"\x80\x04\x8c\x05torch\x8c\x0bos.system.x\x93)R."
    yield "builtins", b"cbuiltins\nexec\n(S'" + text + b"'\ntR."
    yield "chain", b"cbuiltins\nmap\n(cbuiltins\nexec\n](S'" + text + b"'\netR."
    yield "setstate", b"ccollections\nOrderedDict\n)R(S'x'\ntb."
    yield "build_on_list", b"]}b."
    yield "text_persistent_id", b"Pos.system\n."
    yield "persistent", b"(cos\nsystem\nS'x'\ntQ."
    yield "torchscript", b"c__torch__\nM\n)\x81(S'x'\nI1\ntb."
    yield "typed", b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nctorch\nTensor\n)}tR."


def test_c1_hostile_pickles_are_refused_and_run_nothing(tmp_path: Path) -> None:
    """Read them in a separate process with an audit hook that records dangerous events."""
    canary = tmp_path / "canary"
    for name, data in hostile_pickles(str(canary)):
        archive(tmp_path / f"{name}.pt", data)
    script = tmp_path / "read.py"
    script.write_text(AUDITED)
    run = [sys.executable, str(script), *map(str, sorted(tmp_path.glob("*.pt")))]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused = done.stdout.split()
    assert len(refused) == len(list(tmp_path.glob("*.pt"))), done.stderr
    assert set(refused) <= {"UnsafeFileError", "CorruptFileError"}
    assert not canary.exists()


AUDITED = """
import os, sys
from ecliptic.storage.pickled.torch_files import read_torch
from ecliptic.errors import CheckpointError

watched = []
DANGEROUS = ("exec", "compile", "import", "os.system", "subprocess.Popen", "os.exec", "open",
             "pickle.find_class", "os.posix_spawn", "os.fork", "socket.connect", "marshal.loads")

def hook(event, arguments):
    if not active or event not in DANGEROUS:
        return
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    if event == "open" and str(arguments[0]) in sys.argv and not arguments[2] & writes:
        return
    watched.append((event, str(arguments)[:80]))

active = False
sys.addaudithook(hook)
for path in sys.argv[1:]:
    active = True
    try:
        read_torch(path)
        print("read")
    except CheckpointError as error:
        print(type(error).__name__)
    active = False
assert not watched, watched
"""


@pytest.mark.parametrize("name", ["system2", "eval4", "stack_global", "inst"])
def test_a_refusal_names_the_culprit_and_the_way_out(tmp_path: Path, name: str) -> None:
    data = dict(hostile_pickles(str(tmp_path / "canary")))[name]
    with pytest.raises(UnsafeFileError, match=r"system|eval|INST") as refusal:
        read_torch(archive(tmp_path / "x.pt", data))
    assert "x.pt" in str(refusal.value)
    if name != "inst":
        assert "model.state_dict()" in str(refusal.value)


def test_a_whole_pickled_model_is_refused_by_name(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(UnsafeFileError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read_torch(tmp_path / "x.pt")


def test_c2_torchscript_that_restores_itself_by_code_is_not_run(tmp_path: Path) -> None:
    data = b"\x80\x02c__torch__\nM\n)\x81(X\x01\x00\x00\x00aK\x01tb."
    with pytest.raises(UnsafeFileError, match="__setstate__"):
        read_torch(archive(tmp_path / "x.pt", data))


def test_unfolding_and_self_containing_pickles_are_refused(tmp_path: Path) -> None:
    bomb: list[Any] = [0]
    for _ in range(30):
        bomb = [bomb] * 10
    itself: list[Any] = []
    itself.append(itself)
    deep: Any = ()
    for _ in range(5000):
        deep = (deep,)
    sys.setrecursionlimit(20_000)
    for nested in (bomb, itself, deep):
        with pytest.raises(UnsafeFileError, match="nested"):
            read_torch(archive(tmp_path / "x.pt", pickle.dumps(nested, 2)))
    sys.setrecursionlimit(1000)


def test_a_list_is_never_copied_twice(tmp_path: Path) -> None:
    """Otherwise each 8 bytes of the file could ask for another copy of a long list."""
    pairs = b"](](" + b"K\x01K\x02ee" + b"q\x00"
    again = b"0ccollections\nOrderedDict\nh\x00\x85R"
    tree = read_torch(archive(tmp_path / "x.pt", b"\x80\x02" + pairs + again * 2 + b".")).tree
    assert tree == {}
    kept = b"\x80\x02](K\x01eq\x00cbuiltins\nlist\nh\x00\x85R\x86."
    first, second = read_torch(archive(tmp_path / "y.pt", kept)).tree  # type: ignore[misc]
    assert first == second == [1]


@pytest.mark.parametrize("module", [b"builtins", b"__builtin__"])
def test_dict_takes_no_keys_but_cheap_ones(tmp_path: Path, module: bytes) -> None:
    """C hashes a deep tuple by recursion, which would crash the process."""
    deep = b")" + b"\x85" * 100_000
    data = b"\x80\x02c" + module + b"\ndict\n](" + deep + b"N\x86e\x85R."
    with pytest.raises(UnsafeFileError, match="key of a dictionary"):
        read_torch(archive(tmp_path / "x.pt", data))


def test_a_dict_is_never_copied(tmp_path: Path) -> None:
    for name in (b"builtins\ndict", b"collections\nOrderedDict"):
        data = (
            b"\x80\x02](}K\x01K\x02sq\x000c" + name + b"\nq\x010" + b"h\x01h\x00\x85R" * 3 + b"e."
        )
        content = pickles.load(io.BytesIO(data), "x", Budget.for_file(len(data)))
        assert isinstance(content, list)
        assert content == [{1: 2}] * 3
        assert len({id(made) for made in content}) == 1


def test_a_call_of_many_arguments_is_refused_before_they_are_copied(tmp_path: Path) -> None:
    size = b"\x80\x02ctorch\nSize\n(" + b"N" * 17 + b"tR."
    typed = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_parameter\n"
    typed += b"ctorch\nTensor\n(" + b"N" * 17 + b"t}tR."
    for data in (size, typed):
        with pytest.raises(UnsafeFileError, match="17 arguments"):
            read_torch(archive(tmp_path / "x.pt", data))


def test_long_names_are_refused_before_they_multiply(tmp_path: Path) -> None:
    long = b"X" + struct.pack("<i", 5000) + b"a" * 5000
    named = b"\x80\x04X\x0a\x00\x00\x00__torch__." + long + b"\x93."
    with pytest.raises(UnsafeFileError, match="1000 characters"):
        read_torch(archive(tmp_path / "x.pt", named))
    with pytest.raises(UnsafeFileError, match="1000 characters"):
        read_torch(archive(tmp_path / "x.pt", b"\x80\x02}" + long + b"](NNe" + b"s."))
    joined = pickle.dumps({"a" * 600: {"b" * 600: 0}}, 2)
    with pytest.raises(UnsafeFileError, match="1000 characters"):
        read_torch(archive(tmp_path / "x.pt", joined))
    with pytest.raises(UnsafeFileError, match="key of a dictionary"):
        read_torch(archive(tmp_path / "x.pt", b"}p2305843009213693951\n."))


def test_typed_tensors_within_typed_tensors_are_refused(tmp_path: Path) -> None:
    typed = b"ctorch._tensor\n_rebuild_from_type_v2\n"
    data = typed * 5000 + b"N" + (b"ctorch\nTensor\nN\x87R" * 5000) + b"."
    with pytest.raises(UnsafeFileError):
        read_torch(archive(tmp_path / "x.pt", data))


def test_keys_chosen_to_hash_slowly_are_refused(tmp_path: Path) -> None:
    collisions = {i * ((1 << 61) - 1): 0 for i in range(1, 3)}
    nested = {((((1,),),),): 0}
    for state in (collisions, nested, {1.5: 0}):
        with pytest.raises(UnsafeFileError, match="key of a dictionary"):
            read_torch(archive(tmp_path / "x.pt", pickle.dumps(state, 2)))


def test_very_long_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_OPCODES", 1000)
    with pytest.raises(UnsafeFileError, match="1000 operations"):
        read_torch(archive(tmp_path / "x.pt", b"(" + b"N" * 2000 + b"t."))
    monkeypatch.setattr(budget, "MAX_PICKLE", 1000)
    with pytest.raises(UnsafeFileError, match="more than the 1000 allowed"):
        read_torch(archive(tmp_path / "x.pt", b"(" + b"N" * 2000 + b"t."))


def test_a_memo_index_costs_nothing(tmp_path: Path) -> None:
    data = b"\x80\x02}r\xff\xff\xff\x7f."  # LONG_BINPUT 2**31 - 1
    assert read_torch(archive(tmp_path / "x.pt", data)).tree == {}


def test_c7_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = small()
    for length in range(1, len(whole), 11):
        (tmp_path / "x.pt").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_torch(tmp_path / "x.pt")
    (tmp_path / "x.pt").write_bytes(whole[:-100])
    with pytest.raises(CorruptFileError, match="truncated zip: its end record is missing"):
        read_torch(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_flipped_bytes_give_tensors_or_a_typed_error(tmp_path: Path, zipped: bool) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.arange(8.0)}, buffer, _use_new_zipfile_serialization=zipped)
    whole = buffer.getvalue()
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        damaged = bytearray(whole)
        place = int(torch.randint(len(whole), (), generator=generator))
        damaged[place] ^= 1 << int(torch.randint(8, (), generator=generator))
        (tmp_path / "x.pt").write_bytes(damaged)
        try:
            read_torch(tmp_path / "x.pt")
        except CheckpointError:
            continue  # any other error fails the test


def test_random_pickles_give_data_or_a_typed_error(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    opcodes = b"()}]NtleausbqhRQc.0123K\x81\x85\x86\x87\x88\x89\x8c\x93\x94\x80"
    for _ in range(600):
        picks = torch.randint(len(opcodes), (30,), generator=generator).tolist()
        data = bytes(opcodes[i] for i in picks) + b"."
        try:
            read_torch(archive(tmp_path / "x.pt", data))
        except CheckpointError:
            continue


def test_the_limits_are_far_above_the_largest_released_model() -> None:
    assert zip_archive.MAX_ENTRIES >= 10_000
    assert budget.MAX_ITEMS >= 100_000
    large = Budget.for_file(1 << 30)
    assert large.opcodes >= 1_000_000
    assert large.items >= 1_000_000
    assert large.tensors >= 100_000
