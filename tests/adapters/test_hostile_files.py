"""Whatever an adapter file holds, reading it ends in an error of ours, in bounded memory."""

import base64
import itertools
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file

from ecliptic.adapters import read_inversion, read_lora
from ecliptic.errors import CorruptFileError, EclipticError, ImageLimitError
from tests.waiting import alarm_after, special_files

LAYER = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    yield from alarm_after(60)


def png(path: Path, size: tuple[int, int], text: bytes = b"", *, bits: int = 8) -> Path:
    """A PNG whose header says `size`; only small ones have the rows for it."""
    small = size[0] * size[1] < 10_000
    rows = bytes(size[1] * (1 + size[0] * 3)) if small else b""
    chunks = {b"IHDR": struct.pack(">2I5B", *size, bits, 2 if bits == 8 else 0, 0, 0, 0)}
    chunks |= {b"tEXt": b"sd-ti-embedding\0" + text} if text else {}
    chunks |= {b"IDAT": zlib.compress(rows), b"IEND": b""}
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks.items():
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(data)
    return path


def holding(path: Path, value: str) -> Path:
    """A PNG with an inversion whose tensor is the JSON `value`."""
    text = f'{{"string_to_param": {{"*": {{"TORCHTENSOR": {value}}}}}, "name": "x"}}'
    return png(path, (8, 8), base64.b64encode(text.encode()))


@pytest.mark.parametrize(("size", "bits"), [((30_000, 30_000), 1), ((4000, 4000), 8)])
def test_b1_a_large_image_is_refused_from_its_header(
    tmp_path: Path, size: tuple[int, int], bits: int
) -> None:
    with pytest.raises(ImageLimitError, match="at most 4194304 pixels"):
        read_inversion(png(tmp_path / "x.png", size, bits=bits))


HOSTILE_VALUES = [
    "1" + "0" * 400,
    "[1" + "0" * 400 + "]",
    "[1" + "0" * 5000 + "]",
    "[1e400]",
    "[NaN]",
    "[" * 400 + "1" + "]" * 400,
    "[" * 70 + "1" + "]" * 70,
    "[" * 50_000,
    '"x"',
    "null",
    "{}",
    "true",
    "[]",
    "[[]]",
    "[[1, 2], [3]]",
    '["a"]',
    "[null]",
    '[{"a": 1}]',
    '{"TORCHTENSOR": [1]}',
]


@pytest.mark.parametrize("value", HOSTILE_VALUES, ids=lambda value: value[:20])
def test_every_value_of_the_json_is_a_tensor_or_an_error_of_ours(
    tmp_path: Path, value: str
) -> None:
    with pytest.raises(EclipticError):
        read_inversion(holding(tmp_path / "x.png", value))


CODE = """
import resource, sys
from ecliptic.adapters import read_inversion
from ecliptic.errors import EclipticError
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (300 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        read_inversion(path)
    except EclipticError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by RLIMIT_AS")
def test_c4_the_image_of_an_inversion_takes_at_most_300_mb(tmp_path: Path) -> None:
    lists = base64.b64encode(b'{"a": [' + b"[]," * 1_390_000 + b"[]]}")
    noise = torch.randint(1, 256, (2048, 2047, 3), dtype=torch.uint8)
    noise[:, ::682] = 16  # black in the low bits
    Image.fromarray(noise.numpy()).save(tmp_path / "noise.png", compress_level=1)
    paths = [
        png(tmp_path / "huge.png", (30_000, 30_000), bits=1),
        png(tmp_path / "lists.png", (8, 8), lists),
        png(tmp_path / "text.png", (8, 8), b"A" * 50_000_000),
        tmp_path / "noise.png",
    ]
    ran = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, paths)], capture_output=True, text=True, timeout=60
    )
    wanted = ["ImageLimitError", "WeightsMismatchError", "CorruptFileError", "CorruptFileError"]
    assert ran.stdout.split() == wanted, ran.stderr


def odd_tensors() -> list[torch.Tensor]:
    shapes = [(), (0,), (2, 0), (0, 8), (8,), (2, 3, 4), (1, 1, 1, 1), (4, 8)]
    dtypes = [torch.bool, torch.int64, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]
    odd = [torch.ones(shape) for shape in shapes]
    odd += [torch.ones(4, 8).to(dtype) for dtype in dtypes]
    odd += [torch.full((4, 8), value, dtype=torch.float64) for value in (float("nan"), 1e300)]
    odd += [torch.tensor(value) for value in (float("inf"), 1 << 62, True)]
    odd += [torch.tensor(1e300, dtype=torch.float64), torch.tensor([1.0]).to(torch.float8_e5m2)]
    return odd


def _contents(odd: torch.Tensor) -> Iterator[Any]:
    yield from ({"emb_params": odd}, {"a": odd}, odd, [odd], [odd, torch.ones(3, 8)], {1: odd})
    yield from ({"clip_l": odd, "clip_g": torch.ones(1, 8)}, [{"a": odd}, {"b": odd}])
    yield from ({"bundle_emb.x.string_to_param.*": odd}, {"string_to_param": odd}, ((odd,),))
    yield {"string_to_param": {"_parameters": {"*": odd}}, "name": 5}
    up, down = torch.ones(8, 4), torch.ones(4, 8)
    for parts in ((odd, down, torch.ones(())), (up, odd, torch.ones(())), (up, down, odd)):
        names = ("lora_up.weight", "lora_down.weight", "alpha")
        yield {f"{LAYER}.{name}": part for name, part in zip(names, parts, strict=True)}


def test_odd_tensors_are_read_or_refused_by_an_error_of_ours(tmp_path: Path) -> None:
    path, read = tmp_path / "x.pt", 0
    for content in itertools.chain.from_iterable(map(_contents, odd_tensors())):
        torch.save(content, path)
        for reader in (read_inversion, read_lora):
            try:
                reader(path)
                read += 1
            except EclipticError:
                pass
    assert read > 50


@pytest.mark.parametrize(
    "config",
    [
        '{"lora_alpha": 1' + "0" * 400 + "}",
        '{"lora_alpha": 1' + "0" * 5000 + "}",
        '{"lora_alpha": NaN}',
        '{"lora_alpha": [1]}',
        '{"alpha_pattern": [1]}',
        '{"alpha_pattern": {"a": null}}',
        '{"alpha_pattern": {"((((": 1}}',
        '{"peft_type": ["a"]}',
        "[]",
        "[" * 100_000,
    ],
    ids=lambda config: config[:30],
)
def test_odd_settings_of_a_lora_are_errors_of_ours(tmp_path: Path, config: str) -> None:
    key = "base_model.model.text_model.encoder.layers.0.self_attn.q_proj"
    pair = {f"{key}.lora_B.weight": torch.ones(8, 4), f"{key}.lora_A.weight": torch.ones(4, 8)}
    save_file(pair, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(config)
    with pytest.raises(EclipticError):
        read_lora(tmp_path)


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    for path in special_files(tmp_path):
        for reader in (read_inversion, read_lora):
            with pytest.raises(EclipticError):
                reader(path)


def test_an_inversion_in_another_kind_of_chunk_is_read(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    tensor = {"TORCHTENSOR": [[1.0, 2.0]]}
    text = json.dumps({"string_to_param": {"*": tensor}, "name": "cat"})
    info.add_itxt("sd-ti-embedding", base64.b64encode(text.encode()).decode(), zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=info)
    [found] = read_inversion(tmp_path / "x.png")
    assert found.vectors[""].tolist() == [[1.0, 2.0]]
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:40])
    with pytest.raises(CorruptFileError, match=r"x\.png"):
        read_inversion(tmp_path / "x.png")
