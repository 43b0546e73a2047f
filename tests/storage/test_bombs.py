"""Small files that ask for much: each costs less than 2 seconds and 300 MB, or is refused sooner.

The reader runs in a process of its own that cannot allocate more, so a limit that is gone ends in
a MemoryError here. CPU time is compared, because other work on the machine does not change it.
"""

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ecliptic.storage import read_torch
from tests.pace import slowness

from .archives import archive

SECONDS, MEGABYTES, LARGEST = 2.0, 300, 1_000_000  # the promise, for files of up to so many bytes
TENSOR = (
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x000(X\x07\x00\x00\x00storagectorch\n"
    b"FloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQq\x010"
    b"(h\x01K\x00K\x04\x85K\x01\x85tq\x020"  # h\x00 is the function, h\x02 its arguments
)
FULL = LARGEST - 1000
LINUX = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="measures memory as Linux does"
)


def padded(data: bytes, size: int = FULL) -> bytes:
    """A pickle followed by zeros, so that the limits for a file of `size` bytes hold."""
    return data + bytes(size - len(data))


def many(data: bytes, operations: int, start: bytes = b"\x80\x02") -> bytes:
    """A list of what `data` makes with so many operations, as often as 1 MB may ask for it."""
    return padded(start + b"](" + data * (220_000 // operations) + b"e.")


def colliding(count: int = 43_692, bits: int = 17) -> list[int]:
    """Keys that fill the slots which Python tries one after the other, and one that tries all.

    Source: the comment on collisions in CPython's Objects/dictobject.c.
    """
    mask, slot = (1 << bits) - 1, 1
    keys = []
    for _ in range(count):
        keys.append(slot)
        slot = (5 * slot + 1) & mask
    return [*keys, keys[0] + (1 << bits)]


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def text(value: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value


def refused_pickles() -> Iterator[tuple[str, bytes]]:
    """Names, and pickles that ask for too much."""
    yield "names", pickle.dumps({"A" * 980: [[1] * 1400] * 1400}, 2)
    yield "wide_names", padded(pickle.dumps({"\U0001f600" + "A" * 980: [[1] * 220] * 1000}, 2))
    yield "operations", b"\x80\x02](" + b"N" * FULL + b"e."
    keys = colliding()
    items = b"".join(number(key) + b"N" for key in keys)
    yield "number_keys", b"\x80\x02}(" + items + (number(keys[-1]) + b"N") * 60_000 + b"u."
    tuples = b"".join(number(key) + b"K\x01\x86N" for key in range(40_000))
    yield "number_tuples", b"\x80\x02}(" + tuples + b"u."
    key = text(b"a" * 400_000)
    again = b"q\x01}h\x00Ns(" + b"h\x01N" * 60_000 + b"u"
    yield "long_key", b"\x80\x02" + key + b"q\x000" + key + again + b"."
    yield "decimal_number", b"\x80\x02L" + b"9" * 900_000 + b"L\n."


def allowed_pickles() -> Iterator[tuple[str, bytes]]:
    """Pickles that ask for as much as they may."""
    yield "deep_tuples", many(b"N" + b"\x85" * 60, 61)
    yield "tensors", many(b"h\x00h\x02R", 8, TENSOR)
    keys = colliding(10_923, 15)
    items = b"".join(number(key) + b"N" for key in keys)
    yield "number_keys", b"\x80\x02}(" + items + (number(keys[-1]) + b"N") * 9_000 + b"u."
    keys = colliding()
    memo = b"".join(b"r" + struct.pack("<I", key) for key in keys)
    again = b"j" + struct.pack("<I", keys[-1]) + b"0"
    yield "memo_numbers", padded(b"\x80\x02N" + memo + again * 60_000 + b".")
    yield "long_number", b"\x80\x02\x8b" + struct.pack("<i", 900_000) + b"\x7f" * 900_000 + b"."


def more_allowed_pickles() -> Iterator[tuple[str, bytes]]:
    """More of them."""
    yield "long_names", padded(pickle.dumps({"A" * 220: [[1] * 220] * 1000}, 2))
    yield "nones", many(b"N", 1)
    yield "dicts", many(b"}", 1)
    yield "tuples", many(b"N\x85", 2)
    yield "modules", many(b"h\x00)\x81", 3, b"\x80\x02c__torch__\nM\nq\x000")
    yield "memo", padded(b"\x80\x04](" + b"}\x94" * 110_000 + b"e.")
    yield "marks", padded(b"\x80\x02" + b"(" * 590_000 + b".")
    one = TENSOR + b"}" + text(b"A" * 200) + b"]h\x00h\x02Rq\x030("
    yield "shared_tensor", padded(one + b"h\x03" * 140_000 + b"es.")
    yield "decimal_numbers", b"\x80\x02](" + (b"I" + b"9" * 4299 + b"\n") * 200 + b"e."
    data = b"B" + struct.pack("<I", 100_000) + bytes(100_000)
    start = b"\x80\x02cbuiltins\nbytearray\nq\x000" + data + b"\x85q\x020"
    yield "bytearrays", many(b"h\x00h\x02R", 3, start)


def write_refused(folder: Path) -> None:
    for name, data in refused_pickles():
        archive(folder / f"{name}.pt", data)
    shared = torch.zeros(1)
    torch.save({"a": [[shared] * 1400] * 1400}, folder / "shared_tensors.pt")
    with zipfile.ZipFile(folder / "deflated.pt", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", b"\x80\x02](" + b"N" * 5_000_000 + b"e.")


def write_allowed(folder: Path) -> None:
    for name, data in allowed_pickles():
        archive(folder / f"{name}.pt", data)


def write_more(folder: Path) -> None:
    for name, data in more_allowed_pickles():
        archive(folder / f"{name}.pt", data)
    with zipfile.ZipFile(folder / "entries.pt", "w") as file:
        file.writestr("x/data.pkl", b"N.")
        for index in range(9_900):
            file.writestr(f"x/{index:x}", b"")


def write_legacy(folder: Path) -> None:
    start = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {}))
    nones = b"\x80\x02](" + b"N" * 110_000 + b"e."
    (folder / "legacy_two.pt").write_bytes(padded(start + nones * 2))
    keys = b"\x80\x02X\x01\x00\x00\x00aq\x000](" + b"h\x00" * 110_000 + b"e."
    (folder / "legacy_keys.pt").write_bytes(padded(start + b"\x80\x02N." + keys))
    unfolding = pickle.dumps([[[1] * 1400] * 1400] * 1400, 2)
    (folder / "legacy_unfolding.pt").write_bytes(start + unfolding + b"\x80\x02].")


def write_headers(folder: Path) -> None:
    def write(name: str, header: bytes, data: bytes = b"") -> None:
        path = folder / f"{name}.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + data)

    twins = b",".join(b'"%d":{}' % index for index in range(70_000))
    write("names_twice", b"{" + twins + b',"69999":{}}')
    write("lists", b'{"a":[' + b",".join([b"[]"] * 330_000) + b"]}")
    write("objects", b'{"a":[' + b",".join([b'{"":0}'] * 140_000) + b"]}")
    entry = b'"%x":{"dtype":"U8","shape":[],"data_offsets":[%d,%d]}'
    places = b",".join(entry % (index, index, index + 1) for index in range(15_000))
    write("many_tensors", b"{" + places + b"}", bytes(15_000))
    mapping = {str(index): "one.safetensors" for index in range(30_000)}
    twice = json.dumps({"weight_map": mapping}).replace('"29999"', '"29998"')
    (folder / "twins.index.json").write_text(twice)


def clip_shapes(layers: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the tensors of a model in OpenAI's layout."""
    towers = {"visual.transformer": (1, 64), "transformer": (layers, width)}
    for tower, (count, size) in towers.items():
        for block in (f"{tower}.resblocks.{index}" for index in range(count)):
            yield from ((f"{block}.ln_{n}.{x}", (size,)) for n in "12" for x in ("weight", "bias"))
            wide = {"attn.in_proj_": 3, "attn.out_proj.": 1, "mlp.c_fc.": 4}
            yield from ((f"{block}.{x}weight", (n * size, size)) for x, n in wide.items())
            yield from ((f"{block}.{x}bias", (n * size,)) for x, n in wide.items())
            yield f"{block}.mlp.c_proj.weight", (size, 4 * size)
            yield f"{block}.mlp.c_proj.bias", (size,)
    yield from {
        "token_embedding.weight": (2000, width),
        "positional_embedding": (77, width),
        "text_projection": (width, 64),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
        "logit_scale": (),
        "visual.class_embedding": (64,),
        "visual.positional_embedding": (50, 64),
        "visual.proj": (64, 64),
        "visual.conv1.weight": (64, 3, 32, 32),
    }.items()
    yield from ((f"visual.ln_{n}.{x}", (64,)) for n in ("pre", "post") for x in ("weight", "bias"))


def write_repeated(folder: Path) -> None:
    """Files that store few values and use them very often."""
    one, some = torch.zeros(()), torch.zeros(10_000)
    model = {name: one.expand(shape) for name, shape in clip_shapes(64, 512)}
    torch.save(model, folder / "load.pt")
    torch.save([{"a": one.expand(1365, 768)}] * 300, folder / "read_inversion.pt")
    torch.save([{"a": some.view(-1, 100)}] * 20_000, folder / "read_inversion_shared.pt")
    up, down = one.expand(4096, 256), one.expand(256, 4096)
    layers = [f"lora_te_text_model_encoder_layers_{i}_self_attn_q_proj" for i in range(2500)]
    lora = {f"{x}.lora_up.weight": up for x in layers}
    lora |= {f"{x}.lora_down.weight": down for x in layers}
    torch.save(lora, folder / "read_lora.pt")
    torch.save(lora, folder / "read_lora_old.pt", _use_new_zipfile_serialization=False)
    names = {f"{i}": one.expand(1000, 1000) for i in range(20)}
    for name, tensor in names.items():
        torch.save({name: tensor}, folder / f"shard{name}.pt")
    index = {"weight_map": {name: f"shard{name}.pt" for name in names}}
    (folder / "shards.index.json").write_text(json.dumps(index))


CHILD = """
import json, resource, sys, time
from pathlib import Path
import safetensors.torch, torch
import ecliptic
from ecliptic.adapters import read_inversion, read_lora
from ecliptic.errors import CheckpointError, EclipticError
from ecliptic.storage import read_safetensors, read_shards, read_tensors, read_torch

readers = {"load": ecliptic.load, "read_inversion": read_inversion, "read_lora": read_lora}
for reader in readers.values():  # imports what it needs
    try:
        reader(Path("missing.pt"))
    except EclipticError:
        pass

def cost(path):
    start = time.process_time()
    try:
        for name, reader in readers.items():
            if path.name.startswith(name):
                reader(path)
        file = (read_shards if path.name.endswith(".json") else read_tensors)(path)
        outcome = f"{len(file.tensors)} tensors, {len(file.metadata)} values"
    except CheckpointError as error:
        assert len(str(error)) < 1000, len(str(error))
        outcome = f"{type(error).__name__}: {error}"
    return path.stem, path.stat().st_size, time.process_time() - start, outcome

used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
most = used + int(sys.argv[2]) * 1_000_000
resource.setrlimit(resource.RLIMIT_AS, (most, most))
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(json.dumps(cost(path)), flush=True)
"""


def read_within_the_limits(folder: Path) -> dict[str, str]:
    """Read all files of the folder in another process; the outcome of each by its name."""
    run = [sys.executable, "-c", CHILD, str(folder), str(MEGABYTES)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=100)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (done.stderr, rows[-1:])
    assert len(rows) == len(list(folder.iterdir()))
    for name, size, seconds, outcome in rows:
        assert size < LARGEST, name
        assert seconds < SECONDS * slowness(), (name, outcome)
    return {name: outcome for name, _, _, outcome in rows}


@LINUX
def test_c4_small_files_that_ask_for_too_much_are_refused(tmp_path: Path) -> None:
    write_refused(tmp_path)
    outcomes = read_within_the_limits(tmp_path)
    assert all("Error" in outcome for outcome in outcomes.values()), outcomes


@LINUX
def test_c4_few_values_used_very_often_are_refused_by_every_reader(tmp_path: Path) -> None:
    write_repeated(tmp_path)
    outcomes = read_within_the_limits(tmp_path)
    kept = {name for name, outcome in outcomes.items() if "UnsafeFileError" not in outcome}
    assert kept == {f"shard{index}" for index in range(20)}, outcomes  # each is small


def test_tensors_that_are_used_some_times_are_read(tmp_path: Path) -> None:
    weights = torch.zeros(1 << 21, dtype=torch.uint8)
    torch.save({"model": weights, "ema": weights, "masks": [torch.ones(1).expand(1000, 1000)] * 3},
               tmp_path / "x.pt")  # fmt: skip
    assert len(read_torch(tmp_path / "x.pt").tensors) == 5


@LINUX
@pytest.mark.parametrize(
    "write",
    [
        write_allowed,
        *(pytest.param(x, marks=pytest.mark.slow) for x in (write_more, write_legacy)),
        pytest.param(write_headers, marks=pytest.mark.slow),
    ],
)
def test_c4_what_a_small_file_may_ask_for_is_cheap(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    read_within_the_limits(tmp_path)
