"""The caches with a real conditioner: all that changes its results changes the keys."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ecliptic.checkpoints import write
from ecliptic.diffusion.cache.keys import cache_identity, condition_key
from ecliptic.diffusion.cache.memory import CachedConditioner
from ecliptic.diffusion.cache.read import ConditionCache
from ecliptic.diffusion.cache.write import Caption, Watch, write_cache
from ecliptic.diffusion.conditioners import Conditioner
from ecliptic.diffusion.conditioning import Conditioning
from ecliptic.diffusion.opening import conditioner
from tests import tiny
from tests.diffusion import pipelines

PROMPTS = ["a (red:1.3) fox", "", "two dogs!", "a cat, " * 9, "a cat"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three tiny text encoders, in which tests may write."""
    path = tmp_path_factory.mktemp("encoders")
    for seed in range(3):
        write(tiny.checkpoint("text", seed=seed), path / str(seed))
    return path


@pytest.fixture
def sdxl(folder: Path) -> Conditioner:
    return make(folder, kernels="plain")  # the same bits in every call


def make(folder: Path, *encoders: int, family: str = "sdxl", **more: Any) -> Conditioner:
    names = [str(folder / str(number)) for number in encoders or (0, 1)]
    return conditioner(family, names, any_size=True, device="cpu", **more)


def with_lora(folder: Path, scale: float) -> Conditioner:
    stem = "lora_te1_text_model_encoder_layers_0_self_attn_q_proj"
    path = folder / "lora.safetensors"
    down, up = torch.ones(2, 64), torch.ones(64, 2)
    save_file({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}, path)
    found = make(folder)
    found.add_lora(path, scale)
    return found


def with_inversion(folder: Path, value: float) -> Conditioner:
    path = folder / "inversion.safetensors"
    save_file({"clip_l": torch.full((1, 64), value), "clip_g": torch.full((1, 64), value)}, path)
    found = make(folder)
    found.add_inversion(path, "zebra")
    return found


def key(of: Conditioner, **how: Any) -> str:
    return condition_key(cache_identity(of, **how), PROMPTS[0])


WAYS: dict[str, Callable[[Path], str]] = {
    "plainly": lambda folder: key(make(folder)),
    "another family": lambda folder: key(make(folder, 0, family="sd1")),
    "another first encoder": lambda folder: key(make(folder, 2, 1)),
    "another second encoder": lambda folder: key(make(folder, 0, 2)),
    "the encoders in another order": lambda folder: key(make(folder, 1, 0)),
    "bf16": lambda folder: key(make(folder, precision="bf16")),
    "a LoRA": lambda folder: key(with_lora(folder, 1.0)),
    "a weaker LoRA": lambda folder: key(with_lora(folder, 0.5)),
    "an inversion": lambda folder: key(with_inversion(folder, 0.1)),
    "another inversion": lambda folder: key(with_inversion(folder, 0.2)),
    "another dialect": lambda folder: key(make(folder), dialect="a1111"),
    "another emphasis": lambda folder: key(make(folder), dialect="a1111", emphasis="no-norm"),
    "another layout": lambda folder: key(make(folder), long="kohya"),
    "clip skip": lambda folder: key(make(folder), clip_skip=1),
    "another tool": lambda folder: key(make(folder), compat="comfyui"),
    "steps": lambda folder: key(make(folder), steps=7),
    "stored narrow": lambda folder: key(make(folder), dtype="fp16"),
}


def test_whatever_decides_numbers_decides_keys(folder: Path) -> None:
    keys = {name: way(folder) for name, way in WAYS.items()}
    assert len(set(keys.values())) == len(WAYS), keys
    assert key(make(folder)) == keys["plainly"]


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value in nested dicts and lists."""
    if not isinstance(value, dict | list):
        yield path
        return
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for name, item in inner:
        yield from leaves(item, (*path, name))


def test_no_field_of_the_identity_is_left_out_of_the_key(sdxl: Conditioner) -> None:
    whole = cache_identity(sdxl, dialect="a1111")
    places = list(leaves(whole))
    assert len(places) > 15
    found = {condition_key(whole, "a")}
    for *path, last in places:
        changed = cache_identity(sdxl, dialect="a1111")
        inner: Any = changed
        for step in path:
            inner = inner[step]
        inner[last] = f"not {inner[last]}"
        found.add(condition_key(changed, "a"))
    assert len(found) == len(places) + 1


@pytest.mark.filterwarnings("ignore::ecliptic.inputs.TruncationWarning")
@pytest.mark.parametrize("how", [{}, {"dialect": "a1111", "long": "chunk"}])
def test_what_is_stored_is_what_the_conditioner_gave(
    sdxl: Conditioner, tmp_path: Path, how: dict[str, Any]
) -> None:
    some = [Caption(str(number), prompt) for number, prompt in enumerate(PROMPTS)]
    report = write_cache(sdxl, some, tmp_path, batch_size=len(PROMPTS), **how)
    assert (report.written, report.truncated) == (len(PROMPTS), 0 if how else 1)
    cache = ConditionCache(tmp_path)
    for number, wanted in enumerate(sdxl.each(PROMPTS, **how)):
        found = cache.load(str(number))
        assert torch.equal(found.tokens, wanted.tokens)  # type: ignore[arg-type]
        assert torch.equal(found.pooled, wanted.pooled)  # type: ignore[arg-type]
        alone = sdxl(PROMPTS[number], **how).tokens
        torch.testing.assert_close(found.tokens, alone, rtol=1e-5, atol=1e-5)


def test_prompts_that_change_over_the_steps_are_not_kept(sdxl: Conditioner, tmp_path: Path) -> None:
    refused: list[str] = []
    some = [Caption("1", "a [b:c:3]"), Caption("2", "a AND b"), Caption("3", "fine")]
    watch = Watch(reject=lambda caption, _: refused.append(caption.id))
    write_cache(sdxl, some, tmp_path, watch=watch, dialect="a1111", steps=10)
    assert refused == ["1", "2"]
    assert len(ConditionCache(tmp_path)) == 1


def test_a_lora_put_in_between_misses_and_taken_out_hits(sdxl: Conditioner, folder: Path) -> None:
    with_lora(folder, 1.0)
    cached: CachedConditioner[Conditioning] = CachedConditioner(sdxl)
    before = cached("a fox", negative="blurry")
    sdxl.add_lora(folder / "lora.safetensors")
    during = cached("a fox", negative="blurry")
    sdxl.remove_lora("lora")
    after = cached("a fox", negative="blurry")
    assert not torch.equal(before.tokens, during.tokens)  # type: ignore[arg-type]
    assert torch.equal(before.tokens, after.tokens)  # type: ignore[arg-type]
    assert (cached.statistics.hits, cached.statistics.misses) == (1, 2)
    wanted = sdxl("a fox", negative="blurry").to_diffusers()
    assert all(torch.equal(after.to_diffusers()[name], wanted[name]) for name in wanted)
    assert after.ledger == before.ledger


def test_the_width_of_the_zeros_in_place_of_t5_decides_keys() -> None:
    folder = pipelines.folder("sd3-without-t5")  # its denoiser is narrower than a released one
    narrow, wide = (
        conditioner("sd3", encoders, any_size=True, t5=False)
        for encoders in (folder, [folder / "text_encoder", folder / "text_encoder_2"])
    )
    assert narrow.each(["a"])[0].tokens.shape != wide.each(["a"])[0].tokens.shape  # type: ignore[union-attr]
    assert cache_identity(narrow) != cache_identity(wide)
