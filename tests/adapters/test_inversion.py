"""Textual inversions of every layout give the same vectors; damaged files give clear errors."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ecliptic.adapters.inversion import read_inversion
from ecliptic.errors import (
    ConfigError,
    CorruptFileError,
    ShapeError,
    UnknownModelError,
    UnsafeFileError,
    WeightsMismatchError,
)
from tests.adapters.files import SINGLE, a1111, save, vectors


@pytest.mark.parametrize("layout", SINGLE)
def test_every_layout_of_one_encoder_holds_the_same_vectors(layout: str, tmp_path: Path) -> None:
    name, content = SINGLE[layout]
    [found] = read_inversion(save(tmp_path / name, content(vectors())), "cat")
    assert found.token == "cat"
    assert found.layout == layout.partition("-")[0]
    assert found.vectors.keys() == {""}
    torch.testing.assert_close(found.vectors[""], vectors(), rtol=0, atol=0)
    assert len(found.sha256) == 64


@pytest.mark.parametrize("layout", SINGLE)
def test_a_single_vector_without_a_row_axis_is_one_vector(layout: str, tmp_path: Path) -> None:
    name, content = SINGLE[layout]
    flat = vectors(1)[0]
    stored = [flat] if layout == "list" else content(flat)
    [found] = read_inversion(save(tmp_path / name, stored), "cat")
    torch.testing.assert_close(found.vectors[""], flat[None], rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_read_as_float32(dtype: torch.dtype, tmp_path: Path) -> None:
    rows = vectors().to(dtype)
    [found] = read_inversion(save(tmp_path / "x.safetensors", {"emb_params": rows}))
    assert found.vectors[""].dtype == torch.float32
    torch.testing.assert_close(found.vectors[""], rows.float(), rtol=0, atol=0)


def test_vectors_do_not_depend_on_the_file_after_reading(tmp_path: Path) -> None:
    path = save(tmp_path / "x.safetensors", {"emb_params": vectors()})
    [found] = read_inversion(path)
    kept = found.vectors[""].clone()
    with path.open("r+b") as stream:
        stream.seek(-64, 2)
        stream.write(bytes(64))
    torch.testing.assert_close(found.vectors[""], kept, rtol=0, atol=0)


@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_dual_encoders_each_get_their_own(keys: tuple[str, str], tmp_path: Path) -> None:
    rows = {keys[0]: vectors(2, 32), keys[1]: vectors(2, 40, seed=1)}
    [found] = read_inversion(save(tmp_path / "sad.safetensors", rows))
    assert (found.token, found.layout) == ("sad", "sdxl")
    assert "stem" in found.notes[0]
    for part, width, key in (("clip_l", 32, keys[0]), ("clip_g", 40, keys[1])):
        torch.testing.assert_close(found.for_encoder(part, width), rows[key], rtol=0, atol=0)
    assert found.for_encoder("clip_h", 32) is None


def test_one_encoder_of_two_leaves_the_other_without(tmp_path: Path) -> None:
    [found] = read_inversion(save(tmp_path / "x.safetensors", {"clip_g": vectors(2, 40)}), "x")
    assert found.for_encoder("clip_l", 32) is None
    assert found.for_encoder("clip_g", 40) is not None


def test_vectors_for_a_t5_are_left_out_and_said(tmp_path: Path) -> None:
    rows = {"clip_l": vectors(), "clip_g": vectors(3, 40), "t5xxl": vectors(3, 64)}
    [found] = read_inversion(save(tmp_path / "x.safetensors", rows), "x")
    assert found.vectors.keys() == {"clip_l", "clip_g"}
    assert "t5xxl" in found.notes[0]


def test_unequal_numbers_of_vectors_are_noted(tmp_path: Path) -> None:
    rows = {"clip_l": vectors(2), "clip_g": vectors(3, 40)}
    [found] = read_inversion(save(tmp_path / "x.safetensors", rows), "x")
    assert "2 for clip_l, 3 for clip_g" in found.notes[0]


def test_a_lora_bundles_several_inversions(tmp_path: Path) -> None:
    tensors = {
        "lora_unet_x.lora_up.weight": torch.ones(4, 2),
        "bundle_emb.one.string_to_param.*": vectors(seed=1),
        "bundle_emb.v1.5 two.clip_l": vectors(seed=2),
        "bundle_emb.v1.5 two.clip_g": vectors(3, 40, seed=3),
        "bundle_emb.three.emb_params": vectors(seed=4),
    }
    path = save(tmp_path / "lora.safetensors", tensors)
    found = {one.token: one for one in read_inversion(path)}
    assert found.keys() == {"one", "v1.5 two", "three"}
    torch.testing.assert_close(found["one"].for_encoder("clip_l", 32), vectors(seed=1))
    torch.testing.assert_close(found["v1.5 two"].for_encoder("clip_g", 40), vectors(3, 40, seed=3))
    torch.testing.assert_close(found["three"].for_encoder("clip_h", 32), vectors(seed=4))
    with pytest.raises(ConfigError, match=r"bundles 3 inversions.*'one'.*leave the token out"):
        read_inversion(path, "cat")


def test_a_list_of_two_released_widths_is_told_apart(tmp_path: Path) -> None:
    content = [{"a": vectors(2, 768), "b": vectors(1, 1280)}, {"c": vectors(1, 768, seed=1)}]
    [found] = read_inversion(save(tmp_path / "x.pt", content), "x")
    expected = torch.cat([vectors(2, 768), vectors(1, 768, seed=1)])
    torch.testing.assert_close(found.for_encoder("clip_l", 768), expected)
    assert found.vectors.keys() == {"clip_l", "clip_g"}


def test_a_folder_of_diffusers_is_read(tmp_path: Path) -> None:
    save(tmp_path / "learned_embeds.bin", {"<cat>": vectors()})
    [found] = read_inversion(tmp_path)
    assert found.token == "<cat>"


NO_TOKEN = "names no token, so the file's stem 'file' is used"


@pytest.mark.parametrize(
    ("name", "content", "token", "note"),
    [
        ("file.pt", a1111(vectors()), "trained", "file's stem, 'file'"),
        ("trained.pt", a1111(vectors()), "trained", None),
        ("file.pt", {"string_to_param": {"*": vectors()}}, "file", NO_TOKEN),
        ("file.pt", a1111(vectors(), " "), "file", NO_TOKEN),
        ("file.bin", {"<cat>": vectors()}, "<cat>", None),
        ("file.safetensors", {"emb_params": vectors()}, "file", NO_TOKEN),
        ("file.pt", vectors(), "file", NO_TOKEN),
    ],
)
def test_the_token_is_the_files_name_for_it_else_the_stem(
    name: str, content: Any, token: str, note: str | None, tmp_path: Path
) -> None:
    path = save(tmp_path / name, content)
    [found] = read_inversion(path)
    assert found.token == token
    assert (note in found.notes[0]) if note else not found.notes
    [given] = read_inversion(path, "mine")
    assert (given.token, given.notes) == ("mine", ())


@pytest.mark.parametrize(
    ("width", "part", "here", "families"),
    [
        (768, "clip_h", 1024, ("CLIP-L, of SD 1.x", "OpenCLIP-H, of SD 2.x")),
        (1024, "clip_l", 768, ("OpenCLIP-H, of SD 2.x", "CLIP-L, of SD 1.x")),
        (1280, "clip_l", 768, ("OpenCLIP-bigG", "CLIP-L")),
        (20, "clip_l", 768, ("20 values", "CLIP-L")),
    ],
)
def test_vectors_of_another_family_say_whose_they_are(
    width: int, part: str, here: int, families: tuple[str, str], tmp_path: Path
) -> None:
    [found] = read_inversion(save(tmp_path / "x.pt", a1111(vectors(2, width))))
    with pytest.raises(ShapeError) as error:
        found.for_encoder(part, here)
    for family in families:
        assert family in str(error.value)


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    [found] = read_inversion(save(tmp_path / "x.pt", a1111(vectors())))
    with pytest.raises(ConfigError, match=r"clip_l, clip_h, clip_g.*'t5'"):
        found.for_encoder("t5", 32)


def _with(row: float) -> torch.Tensor:
    rows = vectors()
    rows[1, 2] = row
    return rows


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ({"<a>": _with(float("nan"))}, CorruptFileError, "NaN or infinity"),
        ({"<a>": _with(float("inf"))}, CorruptFileError, "NaN or infinity"),
        ({"<a>": torch.full((1, 4), 1e300, dtype=torch.float64)}, CorruptFileError, "infinity"),
        ({"<a>": vectors().long()}, WeightsMismatchError, "int64"),
        ({"<a>": vectors()[None]}, WeightsMismatchError, r"\(1, 3, 32\)"),
        ({"<a>": torch.empty(0, 32)}, WeightsMismatchError, "at least one vector"),
        ({"<a>": torch.tensor(1.0)}, WeightsMismatchError, r"\(\)"),
        ({"<a>": vectors(), "<b>": vectors()}, WeightsMismatchError, "2 tensors.*read_lora"),
        ({"clip_l": vectors(), "<b>": vectors()}, WeightsMismatchError, "2 tensors"),
        ({}, WeightsMismatchError, "0 tensors"),
        ({"string_to_param": {"*": vectors(), "+": vectors()}}, WeightsMismatchError, "holds 2"),
        ({"string_to_param": {}}, WeightsMismatchError, "holds 0"),
        ({"string_to_param": vectors()}, WeightsMismatchError, "holds 0"),
        ({"string_to_param": {"*": 3}}, WeightsMismatchError, "an? int instead"),
        (
            {"bundle_emb.a.up": vectors(), "bundle_emb.a.x": vectors()},
            WeightsMismatchError,
            "up, x",
        ),
        ([], WeightsMismatchError, "without tensors"),
        ([vectors(1, 5), vectors(1, 6)], WeightsMismatchError, r"\[5, 6\]"),
        ("text", WeightsMismatchError, "holds a str"),
    ],
)
def test_what_is_no_inversion_says_what_it_is(
    content: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        read_inversion(save(tmp_path / "x.pt", content))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64, "Git LFS"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\x07" * 40, "an unknown format|not a safetensors"),
    ],
)
def test_what_is_no_weights_file_says_so(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=message):
        read_inversion(path)


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors"])
def test_a_cut_file_is_corrupt(name: str, tmp_path: Path) -> None:
    path = save(tmp_path / name, {"<a>": vectors()})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptFileError):
        read_inversion(path)


def test_pickles_that_want_code_are_refused(tmp_path: Path) -> None:
    content = {"string_to_param": {"*": vectors()}, "extra": torch.nn.Linear(1, 1)}
    with pytest.raises(UnsafeFileError, match="Nothing was run"):
        read_inversion(save(tmp_path / "x.pt", content))


def test_missing_files_and_senseless_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="check the path"):
        read_inversion(tmp_path / "none.pt")
    with pytest.raises(UnknownModelError, match="learned_embeds"):
        read_inversion(tmp_path)
    with pytest.raises(ConfigError, match="written in a prompt"):
        read_inversion(save(tmp_path / "x.pt", {"<a>": vectors()}), " ")
