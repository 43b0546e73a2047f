"""SD3 and FLUX, T5 passed in or found in the folder: ours equals their `encode_prompt`."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from ecliptic.diffusion import conditioner
from tests.diffusion import pipelines
from tests.diffusion.parity import LONG, MANY, PROMPTS, SINGLE, XL_FIELDS, check, cut, ours

NAMES = {
    "negative": "negative_prompt",
    "negative_2": "negative_prompt_2",
    "images_per_prompt": "num_images_per_prompt",
}


def t5(row: str, texts: Any) -> Tensor:
    """(B, T, D) of the pipeline's own T5."""
    with torch.no_grad(), pipelines.quiet():
        found: Tensor = pipelines.peer(row)._get_t5_prompt_embeds(texts, device="cpu")
    return found


def peer_sd3(row: str, prompt: Any, **options: Any) -> dict[str, Tensor]:
    given = {NAMES.get(name, name): value for name, value in options.items()}
    given = {"prompt_2": None, "prompt_3": None} | given
    with torch.no_grad(), pipelines.quiet():
        found = pipelines.peer(row).encode_prompt(prompt, device="cpu", **given)
    return dict(zip(XL_FIELDS, found, strict=True))


def same_sd3(prompt: Any, **options: Any) -> None:
    batch = len(prompt) if isinstance(prompt, list) else 1
    negative = options.get("negative") or ""
    negatives = negative if isinstance(negative, list) else [negative] * batch
    language = {"t5": t5("sd3", prompt), "negative_t5": t5("sd3", negatives)}
    check(ours("sd3")(prompt, **language, **options), peer_sd3("sd3", prompt, **options))


@pytest.mark.parametrize("name", PROMPTS)
def test_any_prompt_of_sd3(name: str) -> None:
    same_sd3(PROMPTS[name])


@pytest.mark.parametrize("name", SINGLE)
def test_any_negative_of_sd3(name: str) -> None:
    same_sd3("a cat", negative=PROMPTS[name])


@pytest.mark.parametrize(
    ("prompt_2", "negative", "negative_2"),
    [*product([None, "", "in oil!"], [None, "", "blurry!"], [None, "", "x!"])],
)
def test_every_pair_of_wordings_of_sd3(
    prompt_2: str | None, negative: str | None, negative_2: str | None
) -> None:
    same_sd3("a cat!", prompt_2=prompt_2, negative=negative, negative_2=negative_2)


@pytest.mark.parametrize(
    ("prompt", "negative", "clip_skip", "count"),
    [*product(["a cat!", MANY], [None, "bad!"], [None, 1, 2], [1, 2])],
)
def test_every_option_of_sd3(
    prompt: Any, negative: str | None, clip_skip: int | None, count: int
) -> None:
    same_sd3(prompt, negative=negative, clip_skip=clip_skip, images_per_prompt=count)


def test_a_list_of_negatives_of_sd3() -> None:
    same_sd3(MANY, negative=["x!", "", "y"], negative_2=["", "z", "w!"], prompt_2=["a", "", "b"])


def test_long_prompts_of_sd3_are_cut_there_and_the_loss_is_quoted() -> None:
    negative = "b " * 75 + "the end"
    language = {"t5": t5("sd3", LONG), "negative_t5": t5("sd3", negative)}
    found = cut(lambda: ours("sd3")(LONG, negative=negative, **language), "a fox", "the end")
    check(found, peer_sd3("sd3", LONG, negative=negative))


@pytest.mark.parametrize("prompt", ["a cat!", MANY], ids=["one", "many"])
@pytest.mark.parametrize("source", ["encoders", "folder"])
def test_sd3_without_t5_holds_256_zero_tokens(prompt: Any, source: str) -> None:
    """In a folder the transformer says how wide they are; else it is the released width, 4096."""
    row = "sd3-without-t5"
    wanted = peer_sd3(row, prompt, negative="bad!")
    if source == "encoders":
        room = 4096 - pipelines.T5_WIDTH
        wanted |= {n: pad(wanted[n], (0, room)) for n in ("tokens", "negative.tokens")}
    check(ours("sd3", source, row, t5=False)(prompt, negative="bad!"), wanted)
    assert wanted["tokens"].shape[1] == 77 + 256
    assert not wanted["tokens"][:, 77:].any()


def test_the_sd3_pipeline_takes_our_keywords() -> None:
    language = {"t5": t5("sd3", MANY), "negative_t5": t5("sd3", [""] * 3)}
    pipe, found = pipelines.peer("sd3"), ours("sd3", "folder")(MANY, **language)
    keywords = found.to_diffusers()
    pipe.check_inputs(None, None, None, 64, 64, **keywords)
    back = pipe.encode_prompt(None, None, None, device="cpu", **keywords)
    check(found, dict(zip(XL_FIELDS, back, strict=True)))


def test_a_folder_with_a_real_projection_is_projected_as_diffusers_does() -> None:
    """Released folders hold the identity, and the other tools take the state before it."""
    row, prompt = "sd3-projected", "a cat!"
    language = {"t5": t5("sd3", prompt), "negative_t5": t5("sd3", "")}
    check(ours("sd3", row=row)(prompt, **language), peer_sd3(row, prompt))


def peer_flux(prompt: Any, prompt_2: Any = None, count: int = 1) -> dict[str, Tensor]:
    with torch.no_grad(), pipelines.quiet():
        tokens, pooled, _ = pipelines.peer("flux").encode_prompt(
            prompt, prompt_2, device="cpu", num_images_per_prompt=count
        )
    return {"tokens": tokens, "pooled": pooled}


@pytest.mark.parametrize("name", PROMPTS)
def test_any_prompt_of_flux(name: str) -> None:
    prompt = PROMPTS[name]
    check(ours("flux")(prompt, t5=t5("flux", prompt)), peer_flux(prompt))


@pytest.mark.parametrize(("prompt", "count"), [*product(["a cat!", MANY], [1, 2])])
def test_every_option_of_flux(prompt: Any, count: int) -> None:
    second = "another wording" if isinstance(prompt, str) else ["another wording"] * len(prompt)
    found = ours("flux")(prompt, t5=t5("flux", second), images_per_prompt=count)
    check(found, peer_flux(prompt, second, count))


def test_flux_without_t5_gives_the_pooled_vector_alone() -> None:
    found = ours("flux", "folder", t5=False)("a cat!")
    check(found, {"pooled": peer_flux("a cat!")["pooled"], "tokens": None})


def test_the_true_guidance_of_flux_encodes_the_negative_given() -> None:
    language = {"t5": t5("flux", "a cat"), "negative_t5": t5("flux", "bad!")}
    found = ours("flux")("a cat", negative="bad!", **language)
    wanted = peer_flux("bad!")
    negatives = {f"negative.{name}": tensor for name, tensor in wanted.items()}
    check(found, peer_flux("a cat") | negatives)


def test_long_prompts_of_flux_are_cut_there_and_the_loss_is_quoted() -> None:
    found = cut(lambda: ours("flux")(LONG, t5=t5("flux", LONG)), "a fox")
    check(found, peer_flux(LONG))


def test_the_flux_pipeline_takes_our_keywords() -> None:
    pipe, found = pipelines.peer("flux"), ours("flux")(MANY, t5=t5("flux", MANY))
    keywords = found.to_diffusers()
    pipe.check_inputs(None, None, 64, 64, **keywords)
    tokens, pooled, _ = pipe.encode_prompt(None, device="cpu", **keywords)
    check(found, {"tokens": tokens, "pooled": pooled})


# --- T5 found in the folder of the pipeline ------------------------------------------------------


@pytest.mark.parametrize("name", ["bang", "emoji", "empty", "list with empty"])
def test_a_folder_of_sd3_is_encoded_with_its_own_t5(name: str) -> None:
    check(ours("sd3", "folder")(PROMPTS[name]), peer_sd3("sd3", PROMPTS[name]))


@pytest.mark.parametrize(
    ("prompt_3", "negative", "negative_3"),
    [("in oil!", None, None), ("", "blurry!", ""), ("in oil!", "blurry!", "x!"), (None, None, "x")],
)
def test_wordings_of_t5(prompt_3: str | None, negative: str | None, negative_3: str | None) -> None:
    given = {"prompt_3": prompt_3, "negative": negative}
    wanted = peer_sd3("sd3", "a cat!", **given, negative_prompt_3=negative_3)
    check(ours("sd3", "folder")("a cat!", **given, negative_3=negative_3), wanted)


def test_lists_of_wordings_of_t5() -> None:
    given = {"prompt_3": ["a", "", "b"], "negative": ["x!", "", "y"]}
    wanted = peer_sd3("sd3", MANY, **given, negative_prompt_3=["", "z", "w!"])
    check(ours("sd3", "folder")(MANY, **given, negative_3=["", "z", "w!"]), wanted)


@pytest.mark.parametrize(("prompt", "second"), [*product(["a cat!", MANY], [None, "in oil!"])])
def test_a_folder_of_flux_is_encoded_with_its_own_t5(prompt: Any, second: str | None) -> None:
    repeated = second if isinstance(prompt, str) or second is None else [second] * len(prompt)
    check(ours("flux", "folder")(prompt, prompt_2=second), peer_flux(prompt, repeated))


def test_the_true_guidance_of_flux_encodes_the_negative_with_its_own_t5() -> None:
    found = ours("flux", "folder")("a cat", negative="bad!", negative_2="worse")
    negatives = {f"negative.{name}": x for name, x in peer_flux("bad!", "worse").items()}
    check(found, peer_flux("a cat") | negatives)
    assert ours("flux", "folder")("a cat").negative is None


def test_each_prompt_alone_has_the_t5_of_the_batch() -> None:
    for family, wanted in (("sd3", peer_sd3("sd3", MANY)), ("flux", peer_flux(MANY))):
        for row, one in enumerate(ours(family, "folder").each(MANY)):
            check(one, {name: wanted[name][row : row + 1] for name in ("tokens", "pooled")})


def test_words_past_the_length_of_t5_are_quoted() -> None:
    prompt = "x" * 300 + " the end"
    found = cut(lambda: ours("sd3", "folder")("a cat", prompt_3=prompt), "the end")
    check(found, peer_sd3("sd3", "a cat", prompt_3=prompt))


@pytest.mark.parametrize("where", ["text_encoder", "pipeline", "one folder", "as text"])
@pytest.mark.parametrize("family", ["sd3", "flux"])
def test_t5_beside_single_encoders_is_found_in_any_folder(
    family: str, where: str, tmp_path: Path
) -> None:
    folder = pipelines.folder(family)
    number = {"sd3": 3, "flux": 2}[family]
    t5: str | Path = folder if where == "pipeline" else folder / f"text_encoder_{number}"
    if where == "as text":
        t5 = f"{t5}"
    if where == "one folder":
        t5 = tmp_path
        getattr(pipelines.peer(family), f"text_encoder_{number}").save_pretrained(t5)
        getattr(pipelines.peer(family), f"tokenizer_{number}").save_pretrained(t5)
    made = conditioner(
        family, encoders=pipelines.encoders(family), any_size=True, t5=t5, device="cpu"
    )
    check(made(MANY), peer_sd3(family, MANY) if family == "sd3" else peer_flux(MANY))
