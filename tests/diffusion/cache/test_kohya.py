"""kohya's `.npz` caches: read and written as its trainers do, and always checked."""

import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ecliptic.diffusion.cache.keys import StoredConditioning
from ecliptic.diffusion.cache.kohya import read_kohya, write_kohya
from ecliptic.errors import CorruptFileError, NumericalError, ShapeError, StorageError
from tests.storage.faults import damage_bytes, flip_bytes

T, L, G = 77, 768, 1280


def numbers(*shape: int, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def sdxl(path: Path, **more: Any) -> dict[str, Any]:
    arrays = {
        "hidden_state1": numbers(T, L),
        "hidden_state2": numbers(T, G),
        "pool2": numbers(G),
        **more,
    }
    np.savez(path, **arrays)
    return arrays


def test_sdxl_is_read_as_its_pipeline_joins_it(tmp_path: Path) -> None:
    path = tmp_path / "a_te_outputs.npz"
    arrays = sdxl(path)
    found = read_kohya(path)
    assert found.family == "sdxl"
    assert found.tokens.shape == (1, T, L + G)
    assert np.array_equal(found.tokens[0, :, :L], arrays["hidden_state1"])
    assert np.array_equal(found.tokens[0, :, L:], arrays["hidden_state2"])
    assert np.array_equal(found.pooled, arrays["pool2"][None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("length", [77, 152, 227])
def test_what_is_written_is_read_back_exactly(
    tmp_path: Path, dtype: torch.dtype, length: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(1, length, L + G, generator=generator).to(dtype)
    pooled = torch.randn(1, G, generator=generator).to(dtype)
    path = tmp_path / "a_te_outputs.npz"
    write_kohya(StoredConditioning(tokens, pooled), path)
    with np.load(path) as file:
        shapes = {name: file[name].shape for name in file.files}
        kinds = {file[name].dtype for name in file.files}
    assert shapes == {"hidden_state1": (length, L), "hidden_state2": (length, G), "pool2": (G,)}
    assert kinds == {np.dtype(np.float16 if dtype == torch.float16 else np.float32)}
    found = read_kohya(path)
    assert torch.equal(found.tokens, tokens.to(found.tokens.dtype))
    assert torch.equal(found.pooled, pooled.to(found.pooled.dtype))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_encoders_of_any_width_can_be_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_kohya(StoredConditioning(torch.ones(1, 5, 12), torch.ones(1, 4)), path, first_width=3)
    with np.load(path) as file:
        assert file["hidden_state1"].shape == (5, 3)
        assert file["hidden_state2"].shape == (5, 9)


def test_sd3_is_joined_on_the_token_axis(tmp_path: Path) -> None:
    path = tmp_path / "a_sd3_te.npz"
    arrays = {
        "lg_out": numbers(T, 2048),
        "lg_pooled": numbers(2048),
        "t5_out": numbers(20, 4096),
        "clip_l_attn_mask": np.arange(T) < 9,
        "clip_g_attn_mask": np.arange(T) < 9,
        "t5_attn_mask": np.arange(20) < 4,
        "apply_lg_attn_mask": False,
        "apply_t5_attn_mask": True,
    }
    np.savez(path, **arrays)
    found = read_kohya(path)
    assert found.family == "sd3"
    assert found.tokens.shape == (1, T + 20, 4096)
    assert np.array_equal(found.tokens[0, :T, :2048], arrays["lg_out"])
    assert not found.tokens[0, :T, 2048:].any()
    assert np.array_equal(found.tokens[0, T:], arrays["t5_out"])
    assert found.mask is not None
    assert found.mask[0].tolist() == [True] * (T + 4) + [False] * 16


@pytest.mark.parametrize("applied", [True, False])
def test_flux_is_t5_with_a_vector(tmp_path: Path, applied: bool) -> None:
    path = tmp_path / "a_flux_te.npz"
    np.savez(
        path,
        l_pooled=numbers(L),
        t5_out=numbers(16, 4096),
        txt_ids=np.zeros((16, 3), np.float32),
        t5_attn_mask=np.arange(16) < 3,
        apply_t5_attn_mask=applied,
    )
    found = read_kohya(path)
    assert (found.family, found.tokens.shape) == ("flux", (1, 16, 4096))
    assert np.array_equal(found.pooled[0], numbers(L))
    assert (found.mask is not None) == applied


@pytest.mark.parametrize("part", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_file_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "a.npz"
    sdxl(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(CorruptFileError, match=r"is not an intact \.npz file"):
        read_kohya(path)


def test_a_changed_byte_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    sdxl(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"is not an intact \.npz file"):
        read_kohya(path)


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "harm",))

    path = tmp_path / "a.npz"
    sdxl(path, pool2=np.array([Harm()], dtype=object))
    with pytest.raises(CorruptFileError, match=r"is not an intact \.npz file"):
        read_kohya(path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"pool2": numbers(1, G)}, CorruptFileError, "pool2 is float32 of shape"),
        ({"pool2": numbers(G, dtype=np.float64)}, CorruptFileError, "float64"),
        ({"hidden_state1": numbers(3, L)}, CorruptFileError, "3 and 77 tokens"),
        ({"pool2": np.full(G, np.nan, np.float32)}, NumericalError, "NaN or infinity"),
    ],
)
def test_wrong_content_is_refused(tmp_path: Path, change: Any, error: Any, words: str) -> None:
    path = tmp_path / "a.npz"
    sdxl(path, **change)
    with pytest.raises(error, match=words):
        read_kohya(path)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", latents=numbers(4, 4))
    with pytest.raises(CorruptFileError, match="holds latents"):
        read_kohya(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", numbers(4))
    with pytest.raises(CorruptFileError, match="one array"):
        read_kohya(tmp_path / "b.npy")
    with pytest.raises(StorageError, match="cannot be read"):
        read_kohya(tmp_path / "none.npz")


def test_what_is_no_sdxl_prompt_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for tokens, pooled in ((2, 1), (1, 2)):
        two = StoredConditioning(torch.ones(tokens, 5, 12), torch.ones(pooled, 4))
        with pytest.raises(ShapeError, match="of one prompt"):
            write_kohya(two, path)
    with pytest.raises(ShapeError, match="none"):
        write_kohya(StoredConditioning(torch.ones(1, 5, 12)), path)
    with pytest.raises(ShapeError, match="first_width"):
        write_kohya(StoredConditioning(torch.ones(1, 5, 4), torch.ones(1, 4)), path)
    nan = StoredConditioning(torch.full((1, 5, 12), torch.nan), torch.ones(1, 4))
    with pytest.raises(NumericalError, match="NaN"):
        write_kohya(nan, path)
    good = StoredConditioning(torch.ones(1, 5, 12), torch.ones(1, 4))
    with pytest.raises(StorageError, match="cannot be written"):
        write_kohya(good, tmp_path / "none" / "a.npz")
    assert not list(tmp_path.iterdir())


def test_what_a_trainer_does_not_write_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    sdxl(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb.npy", bytes(300 << 20))
    tracemalloc.start()
    assert read_kohya(path).family == "sdxl"
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("how", ["encrypted", "method", "twice", "huge", "object"])
def test_c4_other_zips_are_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "a.npz"
    sdxl(path)
    data = bytearray(path.read_bytes())
    record = data.rindex(b"PK\x01\x02")
    if how == "encrypted":
        data[record + 8] |= 1
    elif how == "method":
        data[record + 10] = 99
    elif how == "huge":
        data[record + 24 : record + 28] = b"\xfe\xff\xff\xff"
    path.write_bytes(data)
    if how == "twice":
        with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("pool2.npy", b"x")
    elif how == "object":
        np.savez(path, hidden_state1=np.array([None]), hidden_state2=1, pool2=2)
    with pytest.raises(CorruptFileError, match=r"is not an intact \.npz file"):
        read_kohya(path)


def test_tokens_are_not_padded_without_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    wide = numbers(1, 4096)
    np.savez(path, lg_out=np.zeros((100_000, 1), np.float16), lg_pooled=wide[0], t5_out=wide)
    with pytest.raises(CorruptFileError, match="more than the"):
        read_kohya(path)


def test_a5_a_changed_byte_gives_the_same_tensors_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    whole = StoredConditioning(torch.rand(1, 3, 8), torch.rand(1, 4))
    write_kohya(whole, path)
    data = path.read_bytes()
    changed = [*flip_bytes(data, 0), *damage_bytes(data, 2, 100)]
    for what, content in changed:
        path.write_bytes(content)
        try:
            found = read_kohya(path)
        except CorruptFileError:
            continue
        assert torch.equal(found.tokens, whole.tokens), what  # type: ignore[arg-type]
        assert torch.equal(found.pooled, whole.pooled), what  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(CorruptFileError, match="a pipe"):
        read_kohya(tmp_path / "a.npz")
