"""Kandinsky 5, HunyuanVideo and HiDream read CLIP's pooled vector alone: ours equals theirs."""

from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion import Caption, ConditionCache, conditioner, verify_cache, write_cache
from tests.diffusion import pipelines
from tests.diffusion.parity import LONG, MANY, PROMPTS, SINGLE, check, cut, ours

ROWS = ["kandinsky5", "kandinsky5-video", "hunyuan-video", "hidream"]
WORDS = {"kandinsky5", "kandinsky5-video"}  # their pipelines repair texts


def condition(row: str, prompt: Any, source: str = "encoders", **options: Any) -> Any:
    return ours(row.removesuffix("-video") if row in WORDS else row, source, row)(prompt, **options)


def peer(row: str, prompt: Any, prompt_2: Any = None) -> Tensor:
    """The pooled vectors as `encode_prompt` of the row's pipeline makes them."""
    pipe = pipelines.peer(row)
    texts = [prompt] if isinstance(prompt, str) else prompt
    with torch.no_grad(), pipelines.quiet():
        if row in WORDS:
            clean = import_module(type(pipe).__module__).prompt_clean
            found = pipe._encode_prompt_clip([clean(text) for text in texts], device="cpu")
        elif row == "hunyuan-video":
            found = pipe._get_clip_prompt_embeds(prompt, device="cpu")
        else:
            second = texts if prompt_2 is None else prompt_2
            encoders = [(pipe.tokenizer, pipe.text_encoder, texts)]
            encoders += [(pipe.tokenizer_2, pipe.text_encoder_2, second)]
            parts = [pipe._get_clip_prompt_embeds(*one, device="cpu") for one in encoders]
            found = torch.cat(parts, dim=-1)
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", PROMPTS)
def test_any_prompt(row: str, name: str) -> None:
    wanted = {"pooled": peer(row, PROMPTS[name]), "tokens": None, "mask": None}
    check(condition(row, PROMPTS[name]), wanted)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", SINGLE)
def test_any_negative(row: str, name: str) -> None:
    found = condition(row, "a cat", negative=PROMPTS[name])
    check(found, {"pooled": peer(row, "a cat"), "negative.pooled": peer(row, PROMPTS[name])})


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("prompt", "count"), [*product(["a cat!", MANY], [1, 2])])
def test_rows_for_each_image_of_a_saved_pipeline(row: str, prompt: Any, count: int) -> None:
    found = condition(row, prompt, "folder", images_per_prompt=count)
    check(found, {"pooled": peer(row, prompt).repeat_interleave(count, 0)})


@pytest.mark.parametrize("row", ROWS)
def test_long_prompts_are_cut_there_and_the_loss_is_quoted(row: str) -> None:
    check(cut(lambda: condition(row, LONG), "a fox"), {"pooled": peer(row, LONG)})


def test_no_negative_leaves_it_to_the_pipeline_or_is_the_empty_prompt() -> None:
    """Kandinsky 5 has a text of its own, and HunyuanVideo no guidance."""
    for row in ("kandinsky5", "hunyuan-video"):
        assert condition(row, "a cat").negative is None
    check(condition("hidream", "a cat"), {"negative.pooled": peer("hidream", "")})


def test_two_wordings_of_hidream() -> None:
    found = condition("hidream", MANY, prompt_2=["x!", "", "y"])
    check(found, {"pooled": peer("hidream", MANY, ["x!", "", "y"])})


def test_hidream_reads_128_tokens_of_its_long_encoders() -> None:
    words = [f"word{number % 7}" for number in range(200)]
    kept = condition("hidream", "a " * 126)
    lost = cut(lambda: condition("hidream", "a " * 126 + " ".join(words)), "word")
    check(lost, {"pooled": kept.pooled})
    assert not condition("hidream", "a " * 100 + "cat").ledger.dropped


def test_the_big_encoder_of_hidream_reads_an_exclamation_mark_as_its_own_tokenizer_does() -> None:
    kinds = ["l-long", "g-end"]  # which pads with the end of text, so "!" is a word
    made = conditioner("hidream", [pipelines.encoder(kind) for kind in kinds], any_size=True)
    pipe = pipelines.peer("hidream")
    with torch.no_grad(), pipelines.quiet():
        parts = [
            pipe._get_clip_prompt_embeds(
                pipelines.tokenizer(kind), pipelines.text_model(kind), "a cat!", 77, device="cpu"
            )
            for kind in kinds
        ]
    check(made("a cat!"), {"pooled": torch.cat(parts, dim=-1)})


def test_the_pipelines_take_our_vectors_beside_the_prompt_of_their_language_model() -> None:
    pipe, given = pipelines.peer("hunyuan-video"), condition("hunyuan-video", MANY).to_diffusers()
    llama, mask = torch.zeros(3, 4, 8), torch.ones(3, 4)
    back = pipe.encode_prompt(
        MANY, prompt_embeds=llama, prompt_attention_mask=mask, device="cpu", **given
    )
    assert torch.equal(back[1], given["pooled_prompt_embeds"])
    given = condition("hidream", MANY).to_diffusers()
    states = {
        "prompt_embeds_t5": torch.zeros(3, 4, 8),
        "prompt_embeds_llama3": torch.zeros(2, 3, 4, 8),
    }
    states |= {f"negative_{name}": tensor for name, tensor in states.items()}
    pipelines.peer("hidream").check_inputs(None, None, None, None, **given, **states)
    given = condition("kandinsky5", MANY).to_diffusers()
    qwen = {"prompt_embeds_qwen": torch.zeros(3, 4, 8), "prompt_cu_seqlens": torch.zeros(4)}
    pipelines.peer("kandinsky5").check_inputs(None, None, 64, 64, **given, **qwen)


@pytest.mark.parametrize("family", ["kandinsky5", "hunyuan-video", "hidream"])
def test_a_cache_of_captions_holds_the_pooled_vectors(family: str, tmp_path: Path) -> None:
    made = ours(family)
    captions = [Caption(str(number), text, number) for number, text in enumerate(MANY)]
    assert write_cache(made, captions, tmp_path).written == 3
    with ConditionCache(tmp_path) as cache:
        for number, text in enumerate(MANY):
            check(cache.load(str(number)), {"pooled": peer(family, text), "tokens": None})
    assert verify_cache(tmp_path, made).ok
