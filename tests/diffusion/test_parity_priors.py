"""Stable Cascade and the unCLIP and Kandinsky 2 priors: ours equals their own encoding."""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.diffusion import pipelines
from tests.diffusion.parity import LONG, MANY, PROMPTS, SINGLE, check, cut, ours, sides
from tests.engine.models import draw

KANDINSKY = ["kandinsky2-prior", "kandinsky21-prior"]
FAMILY = {"kandinsky21-prior": "kandinsky2-prior"}  # one row of ours, two pipelines
ROWS = ["cascade", "unclip", *KANDINSKY]
CASCADE_FIELDS = ("tokens", "pooled", "negative.tokens", "negative.pooled")


def condition(row: str, prompt: Any, **options: Any) -> Any:
    return ours(FAMILY.get(row, row), row=row)(prompt, **options)


def peer(
    row: str, prompt: Any, negative: Any = None, images_per_prompt: int = 1
) -> dict[str, Tensor]:
    pipe, count = pipelines.peer(row), images_per_prompt
    with torch.no_grad(), pipelines.quiet():
        if row == "cascade":
            batch = len(prompt) if isinstance(prompt, list) else 1
            found = pipe.encode_prompt(
                "cpu", batch, count, True, prompt=prompt, negative_prompt=negative
            )
            return dict(zip(CASCADE_FIELDS, found, strict=True))
        more = [] if row == "unclip" else [negative]
        pooled, tokens, mask = pipe._encode_prompt(prompt, "cpu", count, True, *more)
    return sides(pooled=pooled, tokens=tokens, mask=mask)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", PROMPTS)
def test_any_prompt(row: str, name: str) -> None:
    check(condition(row, PROMPTS[name]), peer(row, PROMPTS[name]))


@pytest.mark.parametrize("row", ["cascade", *KANDINSKY])
@pytest.mark.parametrize("name", SINGLE)
def test_any_negative(row: str, name: str) -> None:
    negative = PROMPTS[name]
    check(condition(row, "a cat", negative=negative), peer(row, "a cat", negative))


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize(("prompt", "count"), [*product(["a cat!", MANY], [1, 2])])
def test_rows_for_each_image(row: str, prompt: Any, count: int) -> None:
    found = condition(row, prompt, images_per_prompt=count)
    check(found, peer(row, prompt, images_per_prompt=count))


@pytest.mark.parametrize("row", ["cascade", *KANDINSKY])
@pytest.mark.parametrize("count", [1, 2])
def test_a_list_of_negatives(row: str, count: int) -> None:
    negative = ["", "blurry", "x!"]
    found = condition(row, MANY, negative=negative, images_per_prompt=count)
    check(found, peer(row, MANY, negative, count))


@pytest.mark.parametrize("row", ROWS)
def test_long_prompts_are_cut_there_and_the_loss_is_quoted(row: str) -> None:
    check(cut(lambda: condition(row, LONG), "a fox"), peer(row, LONG))


@pytest.mark.parametrize("row", ROWS)
def test_a_saved_pipeline_gives_the_same(row: str) -> None:
    check(ours(FAMILY.get(row, row), "folder", row)(MANY), peer(row, MANY))


def test_cascade_hides_its_padding_from_attention() -> None:
    """Otherwise the negative, which is almost all padding, would differ from the pipeline's."""
    found, pipe = condition("cascade", "a cat"), pipelines.peer("cascade")
    with torch.no_grad():
        ids = pipe.tokenizer("a cat", padding="max_length", max_length=77, return_tensors="pt")
        unmasked = pipe.text_encoder(ids.input_ids, output_hidden_states=True).hidden_states[-1]
    assert float((found.tokens - unmasked).abs().max()) > 0.1


def test_the_cascade_pipeline_takes_our_keywords() -> None:
    pipe, found = pipelines.peer("cascade"), condition("cascade", MANY, negative="bad!")
    keywords = found.to_diffusers()
    pipe.check_inputs(None, **keywords)
    back = pipe.encode_prompt("cpu", 3, 1, True, **keywords)
    check(found, dict(zip(CASCADE_FIELDS, back, strict=True)))


def test_the_unclip_pipeline_takes_our_keywords() -> None:
    found = condition("unclip", MANY)
    with torch.no_grad():
        back = pipelines.peer("unclip")._encode_prompt(
            None, "cpu", 1, False, **found.to_diffusers()
        )
    check(found, dict(zip(("pooled", "tokens", "mask"), back, strict=True)))


def test_the_prior_takes_our_keywords() -> None:
    """Stacked as the pipeline stacks them, negatives first, under the names of the prior."""
    row, negative, model = "kandinsky2-prior", ["", "blurry", "x!"], pipelines.prior()
    wanted = peer(row, MANY, negative)
    keywords = condition(row, MANY, negative=negative).to_diffusers()
    fields = {"proj_embedding": "pooled", "encoder_hidden_states": "tokens"}
    for keyword, name in (fields | {"attention_mask": "mask"}).items():
        both = torch.cat([wanted[f"negative.{name}"], wanted[name]])
        torch.testing.assert_close(keywords[keyword], both, atol=pipelines.PARITY, rtol=0)
    noisy = torch.randn(6, model.config.embedding_dim)
    with torch.no_grad():
        predicted = model(noisy, 5, **keywords).predicted_image_embedding
    assert predicted.shape == noisy.shape


@pytest.mark.parametrize("row", KANDINSKY)
def test_images_of_the_prior_come_with_its_zero_embed(row: str) -> None:
    found = condition(row, None, images=[draw(0), draw(1)])
    with torch.no_grad():
        zero = pipelines.peer(row).get_zero_embed(2)
    check(found, {"negative.image": zero})
    assert found.image.shape == zero.shape
