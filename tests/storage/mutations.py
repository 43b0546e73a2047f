"""Damages files of weights on purpose, with knowledge of their formats.

Each function yields endless mutants of one good file, in an order that only the `Random` decides:

    for mutant in islice(zip_mutants(path.read_bytes(), Random(seed)), 1000):
        path.write_bytes(mutant.data)  # mutant.what says what was done

`byte_mutants` suits any file, `zip_mutants` any zip, `pickle_mutants` one pickle,
`archive_mutants` what torch.save writes, `legacy_mutants` what it wrote before PyTorch 1.6, and
`safetensors_mutants` safetensors files.
"""

import io
import json
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

Change = Callable[[bytes, Random], "Mutant"]


class Mutant(NamedTuple):
    """A damaged file."""

    what: str  # was done to it
    data: bytes


def byte_mutants(data: bytes, random: Random) -> Iterator[Mutant]:
    """Flipped bits, overwritten, inserted, doubled and missing bytes, in any file."""
    while True:
        yield random.choice((_flip, _overwrite, _insert, _remove, _double, _cut))(data, random)


def zip_mutants(data: bytes, random: Random) -> Iterator[Mutant]:
    """Fields of the zip's records set to values that tempt a reader, or damaged names."""
    records = [
        (place, name, fields)
        for signature, name, fields in _RECORDS
        for place in _find_all(data, signature)
    ]
    while True:
        place, name, fields = random.choice(records)
        field, (offset, form) = random.choice([*fields.items()])
        size = struct.calcsize(form)
        if place + offset + size > len(data):
            continue
        old = struct.unpack_from(form, data, place + offset)[0]
        new = _tempt(old, 8 * size, random)
        damaged = bytearray(data)
        struct.pack_into(form, damaged, place + offset, new)
        yield Mutant(f"{name} at {place}: {field} {old} -> {new}", bytes(damaged))


def pickle_mutants(data: bytes, random: Random) -> Iterator[Mutant]:
    """Operations left out, doubled, swapped, put in, or with another argument."""
    starts = [start for _, _, start in pickletools.genops(data) if start is not None]
    parts = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    while True:
        mutated = parts.copy()
        done = [_mutate_operation(mutated, random) for _ in range(random.choice((1, 1, 2, 5)))]
        yield Mutant("; ".join(done), b"".join(mutated))


def archive_mutants(data: bytes, random: Random) -> Iterator[Mutant]:
    """An archive of torch.save with a mutated pickle, mutated records or damaged bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    inside = pickle_mutants(entries[name], random)
    around = (zip_mutants(data, random), byte_mutants(data, random))
    while True:
        if random.random() < 0.5:
            yield next(random.choice(around))
        else:
            what, mutated = next(inside)
            yield Mutant(what, _write_zip(entries | {name: mutated}))


def legacy_mutants(data: bytes, random: Random) -> Iterator[Mutant]:
    """A file of PyTorch before 1.6 with one mutated pickle of its five, or damaged bytes."""
    stream, ends = io.BytesIO(data), [0]
    for _ in range(5):
        for _ in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    pickles = [data[a:b] for a, b in pairwise(ends)]
    inside = [pickle_mutants(each, random) for each in pickles]
    around = byte_mutants(data, random)
    while True:
        if random.random() < 0.3:
            yield next(around)
        else:
            place = random.choice((2, 3, 3, 3, 4, 4))
            what, mutated = next(inside[place])
            parts = [*pickles[:place], mutated, *pickles[place + 1 :], data[ends[-1] :]]
            yield Mutant(f"pickle {place}: {what}", b"".join(parts))


def safetensors_mutants(data: bytes, random: Random) -> Iterator[Mutant]:
    """Another header length, edited JSON with the right length, or damaged bytes."""
    around = byte_mutants(data, random)
    edits: tuple[Change, ...] = (_edit_json, _edit_json, _repeat_name, _edit_text, _edit_length)
    while True:
        if random.random() < 0.2:
            yield next(around)
        else:
            yield random.choice(edits)(data, random)


_LOCAL = {"version": (4, "<H"), "flags": (6, "<H"), "method": (8, "<H"), "crc": (14, "<I")}
_LOCAL |= {"packed": (18, "<I"), "size": (22, "<I"), "name": (26, "<H"), "extra": (28, "<H")}
_LOCAL |= {"letter": (31, "<B")}
_CENTRAL = {"flags": (8, "<H"), "method": (10, "<H"), "packed": (20, "<I"), "size": (24, "<I")}
_CENTRAL |= {"name": (28, "<H"), "extra": (30, "<H"), "comment": (32, "<H"), "disk": (34, "<H")}
_CENTRAL |= {"header": (42, "<I"), "letter": (47, "<B")}
_END = {"disk": (4, "<H"), "first": (6, "<H"), "here": (8, "<H"), "count": (10, "<H")}
_END |= {"size": (12, "<I"), "start": (16, "<I"), "comment": (20, "<H")}
_END64 = {"here": (24, "<Q"), "count": (32, "<Q"), "size": (40, "<Q"), "start": (48, "<Q")}
_RECORDS = (
    (b"PK\x03\x04", "local header", _LOCAL),
    (b"PK\x01\x02", "central record", _CENTRAL),
    (b"PK\x05\x06", "end record", _END),
    (b"PK\x06\x06", "zip64 end record", _END64),
    (b"PK\x06\x07", "zip64 locator", {"disk": (4, "<I"), "end": (8, "<Q"), "disks": (16, "<I")}),
)
_ARGUMENTS: dict[str, tuple[bytes, ...]] = {  # of operations that need one
    "BININT1": (b"\x00", b"\xff"),
    "BININT2": (b"\xff\xff",),
    "BININT": (b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f"),
    "LONG1": (b"\x00", b"\x08" + b"\xff" * 7 + b"\x7f", b"\x08" + b"\x00" * 7 + b"\x40"),
    "LONG4": (b"\x04\x00\x00\x00\x01\x02\x03\x04", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"),
    "BINFLOAT": (b"\x7f\xf8\x00\x00\x00\x00\x00\x00",),
    "BINUNICODE": (b"\x01\x00\x00\x00a", b"\xff\xff\xff\x7f", b"\x03\x00\x00\x00\xed\xa0\x80"),
    "SHORT_BINUNICODE": (b"\x01a", b"\xffa"),
    "SHORT_BINBYTES": (b"\x01a",),
    "BYTEARRAY8": (b"\x01" + b"\x00" * 7 + b"a", b"\xff" * 8),
    "BINPUT": (b"\x00", b"\x01", b"\xff"),
    "BINGET": (b"\x00", b"\x01", b"\x05", b"\xff"),
    "LONG_BINPUT": (b"\xff\xff\xff\xff",),
    "LONG_BINGET": (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff"),
    "PUT": (b"0\n", b"-1\n", b"99999999999999999999\n", b"x\n"),
    "GET": (b"0\n", b"01\n", b"x\n"),
    "INT": (b"00\n", b"-1\n", b"9" * 5000 + b"\n"),
    "LONG": (b"1L\n", b"9" * 5000 + b"L\n"),
    "FLOAT": (b"nan\n", b"1e999\n", b"x\n"),
    "STRING": (b"'a'\n", b"'\\d'\n", b"'\\xff'\n", b"a\n"),
    "UNICODE": (b"\\ud800\n",),
    "GLOBAL": (
        *(b"os\nsystem\n", b"torch\nSize\n", b"__torch__\nM\n", b"builtins\nlist\n"),
        *(b"collections\nOrderedDict\n", b"collections\nCounter\n", b"builtins\nbytearray\n"),
        *(b"builtins\ncomplex\n", b"torch\nFloatStorage\n", b"torch\nComplexDoubleStorage\n"),
        *(b"torch._utils\n_rebuild_tensor_v2\n", b"torch._utils\n_rebuild_tensor_v3\n"),
        *(b"torch._tensor\n_rebuild_from_type_v2\n", b"torch._utils\n_rebuild_parameter\n"),
    ),
}
_JSON: tuple[object, ...] = (
    *(None, True, 0, -1, 1, 1.5, 1 << 62, 1 << 63, 10**400, "", "F32", "F16", "C64", "BOOL"),
    *("\x1b[2J", "\ud800", "a" * 2000, [], [0], [0, 0], [1 << 62, 1 << 62, 0], [[]], {}, {"": 0}),
)


def _flip(data: bytes, random: Random) -> Mutant:
    damaged, place, bit = bytearray(data), random.randrange(len(data)), random.randrange(8)
    damaged[place] ^= 1 << bit
    return Mutant(f"bit {bit} of byte {place} flipped", bytes(damaged))


def _overwrite(data: bytes, random: Random) -> Mutant:
    place, length = random.randrange(len(data)), random.randint(1, 16)
    new = random.choice((bytes(length), b"\xff" * length, random.randbytes(length)))
    return Mutant(f"{length} bytes from {place} overwritten", _splice(data, place, length, new))


def _insert(data: bytes, random: Random) -> Mutant:
    place, new = random.randint(0, len(data)), random.randbytes(random.randint(1, 16))
    return Mutant(f"{len(new)} bytes put in at {place}", _splice(data, place, 0, new))


def _remove(data: bytes, random: Random) -> Mutant:
    place, length = random.randrange(len(data)), random.randint(1, 16)
    return Mutant(f"{length} bytes from {place} removed", _splice(data, place, length, b""))


def _double(data: bytes, random: Random) -> Mutant:
    place, length = random.randrange(len(data)), random.randint(1, 64)
    new = data[place : place + length]
    return Mutant(f"{length} bytes from {place} doubled", _splice(data, place, 0, new))


def _cut(data: bytes, random: Random) -> Mutant:
    length = random.randrange(len(data))
    return Mutant(f"cut off after {length} bytes", data[:length])


def _splice(data: bytes, place: int, length: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + length :]


def _find_all(data: bytes, part: bytes) -> Iterator[int]:
    place = data.find(part)
    while place >= 0:
        yield place
        place = data.find(part, place + 1)


def _tempt(old: int, bits: int, random: Random) -> int:
    """A value of so many bits near `old`, near the ends of the range, or anywhere."""
    top = (1 << bits) - 1
    choices = (0, 1, top, top - 1, top >> 1, old + 1, old - 1, old * 2, old ^ 8)
    return random.choice((*choices, random.randint(0, top))) & top


def _mutate_operation(parts: list[bytes], random: Random) -> str:
    """Change one of the operations in place, and say how."""
    place = random.randrange(len(parts))
    way = random.choice(("leave out", "double", "swap", "put in", "put in", "argument"))
    if way == "leave out" and len(parts) > 1:
        del parts[place]
    elif way == "double":
        parts.insert(place, parts[place])
    elif way == "swap":
        other = random.randrange(len(parts))
        parts[place], parts[other] = parts[other], parts[place]
    elif way == "argument" and len(parts[place]) > 1:
        part = bytearray(parts[place])
        byte = random.randrange(1, len(part))
        part[byte] = _tempt(part[byte], 8, random)
        parts[place] = bytes(part)
    else:
        opcode = random.choice(pickletools.opcodes)
        argument = random.choice(_ARGUMENTS.get(opcode.name, (b"",)))
        parts.insert(place, opcode.code.encode("latin-1") + argument)
        way = f"put in {opcode.name} {argument[:16]!r}"
    return f"operation {place}: {way}"


def _write_zip(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return buffer.getvalue()


def _split(data: bytes) -> tuple[str, bytes]:
    """The JSON of a safetensors file, and what follows it."""
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end].decode(), data[end:]


def _join(text: str, rest: bytes) -> bytes:
    header = text.encode(errors="surrogatepass")
    return struct.pack("<Q", len(header)) + header + rest


def _edit_json(data: bytes, random: Random) -> Mutant:
    """Another value, a missing or an additional one somewhere in the header."""
    text, rest = _split(data)
    header: Any = json.loads(text)
    place, key = header, random.choice([*header])
    while isinstance(place[key], dict | list) and place[key] and random.random() < 0.8:
        place = place[key]
        key = random.choice([*place] if isinstance(place, dict) else range(len(place)))
    value = random.choice(_JSON)
    what = random.choice(("other", "other", "other", "without", "also"))
    if what == "without":
        del place[key]
    elif what == "also" and isinstance(place, dict):
        place[str(value)[:20]] = place[key]
    elif isinstance(place[key], int) and random.random() < 0.5:
        place[key] = value = _tempt(place[key], 64, random)
    else:
        place[key] = value
    return Mutant(f"{what} {key!r}: {str(value)[:40]!r}", _join(json.dumps(header), rest))


def _repeat_name(data: bytes, random: Random) -> Mutant:
    text, rest = _split(data)
    name, value = random.choice([*json.loads(text).items()])
    twice = f"{text.rstrip()[:-1]},{json.dumps(name)}:{json.dumps(value)}}}"
    return Mutant(f"{name!r} twice", _join(twice, rest))


def _edit_text(data: bytes, random: Random) -> Mutant:
    """One character of the JSON removed, doubled or replaced."""
    text, rest = _split(data)
    place = random.randrange(len(text))
    new = random.choice(("", text[place] * 2, *'{}[],:"\\0-9eE\x00\ufeff'))
    return Mutant(
        f"{new!r} for character {place}", _join(text[:place] + new + text[place + 1 :], rest)
    )


def _edit_length(data: bytes, random: Random) -> Mutant:
    length = _tempt(int.from_bytes(data[:8], "little"), 64, random)
    return Mutant(f"header length {length}", struct.pack("<Q", length) + data[8:])
