"""A1111's tags `<lora:name:0.8>` through a conditioner: merged for one call, and taken off."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ecliptic.diffusion import (
    CachedConditioner,
    Caption,
    ConditionCache,
    Conditioner,
    ConditioningWarning,
    Hires,
    cache_identity,
    conditioner,
    write_cache,
)
from ecliptic.engine import load
from ecliptic.errors import ConfigError, NumericalError, ShapeError
from tests.adapters import files as adapters
from tests.diffusion import pipelines
from tests.diffusion.test_conditioner import same

Files = dict[str, Path]
MODULES = {"encoder.layers.0.self_attn.q_proj": (32, 32), "encoder.layers.1.mlp.fc1": (64, 32)}


def save(path: Path, seed: int, prefix: str = "lora_te_", width: int = 32) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for module, (out, _) in MODULES.items():
        key = f"{prefix}text_model_{module.replace('.', '_')}"
        tensors[f"{key}.lora_down.weight"] = torch.randn(4, width, generator=generator)
        tensors[f"{key}.lora_up.weight"] = torch.randn(out, 4, generator=generator)
    path.parent.mkdir(exist_ok=True, parents=True)
    return adapters.save(path, tensors)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return {name: save(tmp_path / f"{name}.safetensors", seed) for seed, name in enumerate("ab")}


def fresh(loras: Any = None, family: str = "sd1") -> Conditioner:
    encoders = pipelines.encoders(family)
    return conditioner(family, encoders=encoders, any_size=True, loras=loras)


def weights(made: Conditioner) -> dict[str, Tensor]:
    towers = [one.tower for one in made.encoders]
    return {f"{n}.{k}": v for n, one in enumerate(towers) for k, v in one.state_dict().items()}


def merged(files: Files, prompt: str, *loras: tuple[str, float], **more: Any) -> Any:
    made = fresh()
    for name, scale in loras:
        made.add_lora(files[name], scale, name)
    return made(prompt, dialect="a1111", **more)


@pytest.mark.parametrize("how", [{}, {"long": "chunk", "compat": "a1111"}])
def test_each_prompt_of_a_batch_has_its_own_loras_for_both_sides(
    files: Files, how: dict[str, Any]
) -> None:
    made = fresh(files)
    before = weights(made)
    found = made(
        ["a cat <lora:a:0.7>", "a cat", "<lora:b:0.2><lora:a:.5:0>a <lora:b:te=.1> cat"],
        negative="blurry, " * 3,
        dialect="a1111",
        **how,
    )
    none = {"negative": "blurry, " * 3, **how}
    wanted = [
        merged(files, "a cat ", ("a", 0.7), **none),
        merged(files, "a cat", **none),
        merged(files, "a  cat", ("b", 0.3), ("a", 0.5), **none),
    ]
    for row, one in enumerate(wanted):
        same(found.tokens[row], one.tokens[0])
        same(found.negative.tokens[row], one.negative.tokens[0])
    assert [(use.prompt, use.network.name, use.applied) for use in found.networks] == [
        (0, "a", True),
        (2, "b", True),
        (2, "a", True),
        (2, "b", True),
    ]
    after = weights(made)
    assert all(torch.equal(before[name], after[name]) for name in before)
    words = {row.text for row in found.ledger.rows}
    assert "lora" not in words


def test_the_weights_stay_after_an_error_and_beside_a_merged_lora(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fresh(files)
    plain = weights(made)
    made.add_lora(files["b"], 0.4)
    before = {name: x.clone() for name, x in weights(made).items()}
    together = made("a cat<lora:a>", dialect="a1111").tokens
    made.add_lora(files["a"])
    same(together, made("a cat").tokens)
    made.remove_lora("a")

    def fail(*_: object, **__: object) -> None:
        raise NumericalError("not finite")

    with monkeypatch.context() as patch:
        patch.setattr("ecliptic.diffusion.encode.lines.LineEncoder.encode", fail)
        with pytest.raises(NumericalError):
            made("a cat<lora:a>", dialect="a1111")
    assert all(torch.equal(x, before[name]) for name, x in weights(made).items())
    made.remove_lora("b")
    assert all(torch.equal(x, plain[name]) for name, x in weights(made).items())


def test_a_folder_is_searched_by_name(files: Files, tmp_path: Path) -> None:
    save(tmp_path / "deep" / "c.safetensors", 5)
    save(tmp_path / "deep" / "a.safetensors", 6)
    made = fresh(tmp_path)
    assert made("x<lora:c>", dialect="a1111").networks[0].applied
    with pytest.raises(ConfigError, match=r"several files are called 'a'"):
        made("x<lora:a>", dialect="a1111")
    for name in ("../c", "deep/c", "c.safetensors", "ab", str(files["b"])[:-12]):
        with pytest.raises(ConfigError, match="there is no LoRA"):
            made(f"x<lora:{name}>", dialect="a1111")
    with pytest.raises(ConfigError, match="is no folder"):
        fresh(tmp_path / "none")
    same(
        made("x<lora:b>", dialect="a1111").tokens, fresh(files)("x<lora:b>", dialect="a1111").tokens
    )


@pytest.mark.parametrize(
    ("tag", "loras", "words"),
    [
        ("<lora:a:0.8>", False, "pass loras="),
        ("<lyco:a:0.8>", False, "pass loras="),
        ("<hypernet:a:0.8>", True, "hypernetworks are not supported"),
        ("<words:here>", True, r"no networks of the kind 'words'; for words, write '<\\words:'"),
        ("<lora:a:1:dyn=4>", True, "dyn= is not supported"),
        ("<lora:unet:1>", True, "no layers for them"),
    ],
)
def test_what_is_not_applied_is_named_and_left_out(
    files: Files, tmp_path: Path, tag: str, loras: bool, words: str
) -> None:
    unet = {"lora_unet_down_blocks_0_q.lora_down.weight": torch.ones(4, 8)}
    unet |= {"lora_unet_down_blocks_0_q.lora_up.weight": torch.ones(8, 4)}
    files["unet"] = adapters.save(tmp_path / "unet.safetensors", unet)
    with pytest.warns(ConditioningWarning, match=words):
        found = fresh(files if loras else None)(f"a cat{tag}", dialect="a1111")
    same(found.tokens, fresh()("a cat").tokens)
    (use,) = found.networks
    assert not use.applied
    assert use.to_json()["problem"] == use.problem


def test_keys_of_a_named_file_that_fit_nothing_are_counted_once(
    files: Files, tmp_path: Path
) -> None:
    tensors = load_file(files["a"])
    name = "lora_te_text_model_encoder_layers_{}_mlp_fc2.oft_blocks"
    tensors |= {name.format(n): torch.ones(2, 4, 4) for n in range(2)}
    files["some"] = adapters.save(tmp_path / "some.safetensors", tensors)
    made = fresh(files)
    with pytest.warns(ConditioningWarning) as caught:
        found = made(
            ["a <lora:some:1>", "b <lora:some:.5>"],
            dialect="a1111",
            steps=4,
            hires=Hires(4),
        )
    (said,) = (str(one.message) for one in caught)
    with pytest.warns(ConditioningWarning) as lasting:
        made.add_lora(files["some"])
    assert said == str(lasting[0].message)
    assert said.startswith("2 keys of ")
    assert "layers_0_mlp_fc2.oft_blocks" in said
    assert [use.text for use in found.networks] == [
        "<lora:some:1> was merged for this call, but 2 keys of its file had no effect",
        "<lora:some:.5> was merged for this call, but 2 keys of its file had no effect",
    ]
    assert found.networks[0].to_json()["idle"] == 2


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ("<lora:a:0>", "'<lora:a:0>' changes nothing at scale 0"),
        ("<lora:a:1><lora:a:-1>", "'<lora:a:-?1>' changes nothing, since .* add up to 0"),
    ],
)
def test_a_scale_of_zero_merges_nothing_and_says_so(files: Files, tags: str, words: str) -> None:
    with pytest.warns(ConditioningWarning, match=words):
        found = fresh(files)(f"a cat{tags}", dialect="a1111")
    same(found.tokens, fresh()("a cat").tokens)
    assert not any(use.applied for use in found.networks)
    assert "was merged" not in " ".join(use.text for use in found.networks)


@pytest.mark.parametrize("scale", ["1e20", "1e30", "1e38"])
def test_a_scale_that_no_encoder_bears_is_blamed(files: Files, scale: str) -> None:
    made = fresh(files)
    with pytest.raises(NumericalError, match=r"<lora:a>.*smaller scale") as caught:
        made(f"a cat<lora:a:{scale}>", dialect="a1111")
    assert "overflows in some models" not in str(caught.value)
    same(made("a cat").tokens, fresh()("a cat").tokens)
    if scale != "1e38":  # which is refused when it is added
        made.add_lora(files["b"], float(scale), "b")
        with pytest.raises(NumericalError, match=r"b at 1e\+.*smaller scale"):
            made("a cat")


def test_tags_in_a_negative_and_in_other_dialects_are_words(files: Files) -> None:
    made = fresh(files)
    with pytest.warns(ConditioningWarning, match="encoded as words"):
        found = made("a cat", negative="bad <lora:a:1>", dialect="a1111")
    assert found.negative is not None
    same(found.negative.tokens, fresh()("bad <lora:a:1>").tokens)
    assert made("a <lora:a:1> cat").networks == ()
    same(made("a <lora:a:1> cat").tokens, fresh()("a <lora:a:1> cat").tokens)


def test_loras_of_another_model_and_gradients_are_refused(files: Files, tmp_path: Path) -> None:
    files["wide"] = save(tmp_path / "wide.safetensors", 1, width=40)
    made = fresh(files)
    with pytest.raises(ShapeError, match="trained for another model"):
        made("a<lora:wide>", dialect="a1111")
    with pytest.raises(ConfigError, match="merge them with add_lora"):
        made("a<lora:a>", dialect="a1111", grad=True)
    with pytest.warns(ConditioningWarning, match="at scale 0"):
        made("a<lora:a:0>", dialect="a1111", grad=True)


def test_caches_know_the_files_behind_the_names(files: Files, tmp_path: Path) -> None:
    made = fresh(files)
    first = made.identity(dialect="a1111")
    assert "networks" not in made.identity()
    assert fresh().identity(dialect="a1111")["networks"] == {}
    cached = CachedConditioner(made)
    captions = [Caption("1", "x<lora:a>"), Caption("2", "x<lora:b:.5>"), Caption("3", "x")]
    report = write_cache(made, captions, tmp_path / "cache", dialect="a1111")
    assert report.written == 3
    with ConditionCache(tmp_path / "cache") as cache:
        for one in captions:
            same(cache.load(one.id).tokens, made(one.text, dialect="a1111").tokens)
            same(cached(one.text, dialect="a1111").tokens, cache.load(one.id).tokens)
    before = made("x<lora:a>", dialect="a1111").tokens
    save(files["a"], 77)
    assert made.identity(dialect="a1111") != first
    assert cache_identity(made, dialect="a1111") != cache_identity(fresh(), dialect="a1111")
    after = made("x<lora:a>", dialect="a1111").tokens
    assert before is not None
    assert after is not None
    assert not torch.allclose(before, after, atol=1e-3)
    same(cached("x<lora:a>", dialect="a1111").tokens, after)


def test_each_and_a_second_wording_have_their_networks(files: Files, tmp_path: Path) -> None:
    first, second = fresh(files).each(["a<lora:a>", "a"], dialect="a1111")
    same(first.tokens, fresh(files)("a<lora:a>", dialect="a1111").tokens)
    assert ([one.network.name for one in first.networks], second.networks) == (["a"], ())
    xl = {n: save(tmp_path / f"xl{n}.safetensors", int(n), "lora_te1_") for n in "12"}
    found = fresh(xl, "sdxl")("a<lora:1>", prompt_2="a<lora:1><lora:2>", dialect="a1111")
    assert [one.network.name for one in found.networks] == ["1", "2"]


def test_two_threads_do_not_share_merged_weights(files: Files) -> None:
    made = fresh(files)
    wanted = {text: made(text, dialect="a1111").tokens for text in ("x<lora:a>", "x")}
    wrong: list[str] = []

    def work(text: str) -> None:
        for _ in range(8):
            found = made(text, dialect="a1111").tokens
            if found is None or not torch.allclose(found, wanted[text], atol=1e-5):  # type: ignore[arg-type]
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(text,)) for text in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def run_beside(work: Callable[[], object], *others: Callable[[], object]) -> None:
    """Run `others` once each while another thread repeats `work`; raise what any of them raises."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            work()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor() as pool:
            repeated = pool.submit(repeat)
            try:
                for one in [pool.submit(other) for other in others]:
                    one.result()
            finally:
                stop.set()
            repeated.result()
    finally:
        sys.setswitchinterval(before)


def test_keys_and_lasting_loras_wait_for_the_end_of_a_call(files: Files) -> None:
    made = fresh(files)
    key = cache_identity(made)
    plain = weights(made)
    keys: list[bool] = []

    def read_keys() -> None:
        keys.extend(cache_identity(made) == key for _ in range(40))

    run_beside(lambda: made("x<lora:a>", dialect="a1111"), read_keys)
    assert all(keys)

    def change() -> None:
        for _ in range(10):
            made.add_lora(files["b"], 0.5, "b")
            made.rescale_lora("b", 0.2)
            made.remove_lora("b")

    run_beside(lambda: made("x<lora:a>", dialect="a1111"), change)
    assert all(torch.equal(x, plain[name]) for name, x in weights(made).items())


def test_conditioners_that_share_an_encoder_do_not_share_merged_weights(files: Files) -> None:
    clip = load(pipelines.encoder("l"), part="text_encoder", kernels="plain")
    one, other = (conditioner("sd1", [clip], any_size=True, loras=files) for _ in range(2))
    wanted = other("x").tokens
    wrong: list[float] = []

    def call() -> None:
        for _ in range(20):
            wrong.append(float((other("x").tokens - wanted).abs().max()))
            other("x<lora:b>", dialect="a1111")

    run_beside(lambda: one("x<lora:a>", dialect="a1111"), call)
    assert max(wrong) < 1e-5
    assert torch.equal(other("x").tokens, wanted)
