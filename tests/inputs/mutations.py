"""Hostile texts and damaged image files from a seed, for fuzzing: the same in every run."""

import random
import struct
import zlib
from collections.abc import Callable, Iterator

from PIL import Image

from tests.inputs.drawn_images import encode, noise
from tests.inputs.texts import HARD, SPECIALS

SYNTAX = (
    *"\\()[]{}:|,+-\"'._<>=!&#;",
    *("BREAK", "AND", "(a:1.2)", "[a:b:0.5]", "[a|b]", ".and()", ".blend(1,1)", ".swap(", "(a)++"),
    *("<lora:a:1>", "withLora(a,1)", ":inf)", ":1e999)", ":-1)", ":nan)"),
)
ENTITIES = (
    *("&amp;", "&amp;amp;lt;", "&#0;", "&#x110000;", "&#xD800;", "&notit;", "&eacute", "&#"),
    *("&#" + "9" * 5000 + ";", "&#x" + "f" * 5000 + ";", "&" + "a" * 40 + ";"),
)
LAYOUTS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
SIZES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def hostile_texts(seed: int, *, surrogates: bool = False) -> Iterator[str]:
    """Endless texts: all planes, marks, entities, brackets of every dialect, long runs."""
    source = random.Random(seed)
    makers: list[Callable[[random.Random], str]] = [
        lambda r: chr(r.randrange(0x110000)),
        lambda r: chr(r.randrange(0x80)),
        lambda r: chr(r.randrange(0x80, 0x250)),
        lambda r: chr(r.randrange(0x300, 0x370)) * r.choice([1, 3, 200]),
        lambda r: "".join(r.choices("\u0301\u0316\u0345\u05b0\u3099", k=r.choice([2, 50, 2000]))),
        lambda r: r.choice("\u202e\u2066\ufeff\u200d\x00\x1b\x85\u2028\u0130\u03a3\u017f\ufb03"),
        lambda r: _misdecode(chr(r.randrange(0x20, 0xD800)), r),
        lambda r: r.choice(ENTITIES),
        lambda r: r.choice(SYNTAX) * r.choice([1, 1, 1, 2, 70]),
        lambda r: r.choice(HARD + SPECIALS),
        lambda r: r.choice(["a", "'", "1", " ", "\n", "漢", "😀", "\\"]) * r.choice([1, 10, 5000]),
    ]
    while True:
        text = "".join(source.choice(makers)(source) for _ in range(source.randrange(1, 20)))
        yield text if surrogates else text.encode(errors="replace").decode()


def seed_images(seed: int) -> dict[str, bytes]:
    """A small valid file of every layout; AVIF only where Pillow writes it."""
    Image.init()
    image = Image.fromarray(noise(23, 31, seed=seed))
    made = {name: encode(image, name) for name in LAYOUTS if name in Image.SAVE}
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        made[f"TIFF {compression}"] = encode(image, "TIFF", compression=compression)
    made["PNG P"] = encode(image.convert("P"), "PNG", transparency=3)
    made["PNG I;16"] = encode(Image.new("I;16", (31, 23), 40_000), "PNG")
    made["GIF animated"] = encode(image, "GIF", save_all=True, append_images=[image.rotate(90)])
    return made


def mutated_images(seed: int) -> Iterator[tuple[str, bytes]]:
    """Endless (layout, bytes): cut, flipped, spliced, with other sizes or other PNG chunks."""
    source, seeds = random.Random(seed), seed_images(seed)
    while True:
        layout = source.choice(list(seeds))
        edits = [cut, flip, splice, edit_size]
        data = source.choice([*edits, edit_chunk] if layout.startswith("PNG") else edits)(
            seeds[layout], source
        )
        yield layout, flip(data, source) if source.random() < 0.2 else data


def cut(data: bytes, source: random.Random) -> bytes:
    """A beginning of the file."""
    return data[: source.randrange(len(data))]


def flip(data: bytes, source: random.Random) -> bytes:
    """Up to eight other bytes, mostly near the header."""
    changed = bytearray(data)
    for _ in range(source.randrange(1, 9)):
        end = source.choice([min(64, len(data)), len(data)])
        if end:
            changed[source.randrange(end)] = source.choice(
                [0, 0x7F, 0x80, 0xFF, source.randrange(256)]
            )
    return bytes(changed)


def splice(data: bytes, source: random.Random) -> bytes:
    """A part of the file doubled, left out or replaced by noise."""
    start, end = sorted(source.choices(range(len(data) + 1), k=2))
    part = source.choice([data[start:end] * 2, b"", source.randbytes(end - start)])
    return data[:start] + part + data[end:]


def edit_size(data: bytes, source: random.Random) -> bytes:
    """Another width or height in the header of any layout, with a valid PNG checksum."""
    value, second = source.choice(SIZES), source.random() < 0.5
    if data.startswith(b"\x89PNG"):
        header = bytearray(data[16:29])
        struct.pack_into(">I", header, 4 * second, value)
        return data[:12] + _chunk(b"IHDR", bytes(header))[4:] + data[33:]
    changed, place, form = bytearray(data), *_size_field(data, second)
    if 0 <= place <= len(data) - struct.calcsize(form):
        mask = (1 << 8 * struct.calcsize(form)) - 1
        struct.pack_into(form, changed, place, value & mask)
    return bytes(changed)


def edit_chunk(data: bytes, source: random.Random) -> bytes:
    """One chunk of a PNG dropped, doubled, renamed, moved or filled anew, its checksum valid."""
    chunks = list(_read_chunks(data))
    place = source.randrange(len(chunks))
    kind, body = chunks.pop(place)
    names = [b"tRNS", b"PLTE", b"iCCP", b"eXIf", b"acTL", b"zTXt", b"IDAT", source.randbytes(4)]
    bomb = zlib.compress(bytes(10**6))
    edits = [
        [],
        [(kind, body), (kind, body)],
        [(source.choice(names), body)],
        [(kind, source.randbytes(len(body)))],
        [(kind, flip(body, source) if body else b"\0"), (b"zTXt", b"a\0\0" + bomb)],
    ]
    chunks[place:place] = source.choice(edits)
    if source.random() < 0.2:
        source.shuffle(chunks)
    return data[:8] + b"".join(_chunk(*chunk) for chunk in chunks)


def _misdecode(text: str, source: random.Random) -> str:
    encoding = source.choice(["latin-1", "cp1252", "cp1251", "mac_roman"])
    return text.encode().decode(encoding, errors="replace")


def _size_field(data: bytes, second: bool) -> tuple[int, str]:
    """Place and form of the width, or of the height; -1 where it is not found."""
    if data.startswith(b"GIF"):
        return 6 + 2 * second, "<H"
    if data.startswith(b"BM"):
        return 18 + 4 * second, "<I"
    if data.startswith(b"RIFF"):
        return 26 + 2 * second, "<H"  # of a lossy frame
    if data.startswith(b"\xff\xd8"):
        found = data.find(b"\xff\xc0")
        return (found + 7 - 2 * second if found >= 0 else -1), ">H"
    if data.startswith((b"II", b"MM")):  # tags 256 and 257, 12 bytes each
        order = "<" if data.startswith(b"II") else ">"
        found = data.find(struct.pack(f"{order}H", 256 + second), 8)
        return (found + 8 if found >= 0 else -1), f"{order}I"
    found = data.find(b"ispe")  # of AVIF
    return (found + 8 + 4 * second if found >= 0 else -1), ">I"


def _read_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        yield data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        place += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
