"""Spliced vectors give the sequences of diffusers after `load_textual_inversion`."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.adapters.inversion import Inversion, read_inversion
from ecliptic.engine import load
from ecliptic.model import TextOutputs
from tests import peers
from tests.adapters.files import SINGLE, save, vectors
from tests.diffusion.pipelines import PARITY, encoder, quiet, text_model, tokenizer

END = 49407
PEERS_OWN = ("a1111", "a1111-parameter", "diffusers", "diffusers-safe", "kohya", "tensor")


@cache
def tower(kind: str) -> Any:
    """Our tower; do not change it, it is shared."""
    return load(encoder(kind)).model.text_tower


def pipeline(kind: str) -> Any:
    """A Stable Diffusion pipeline of its own, since loading changes tokenizer and encoder."""
    library = peers.diffusers()
    parts = {"text_encoder": copy.deepcopy(text_model(kind))}
    parts["tokenizer"] = copy.deepcopy(tokenizer(kind))
    rest = dict.fromkeys(("vae", "unet", "scheduler", "safety_checker", "feature_extractor"))
    with quiet():
        return library.StableDiffusionPipeline(**parts, **rest, requires_safety_checker=False)


def splice(kind: str, before: str, found: Inversion, after: str, part: str) -> TextOutputs:
    """Our outputs for the text `before`, the inversion, the text `after`."""
    tokens, ids = tower(kind), tokenizer(kind)
    pad = ids.pad_token_id
    rows = found.for_encoder(part, tokens.config.width)
    assert rows is not None
    left, right = (ids(text, add_special_tokens=False).input_ids for text in (before, after))
    row = [49406, *left, *[0] * len(rows), *right, END]
    row += [pad] * (77 - len(row))
    at = 1 + len(left)
    embedded = tokens.token_embedding(torch.tensor([row])).detach()
    embedded[0, at : at + len(rows)] = rows
    with torch.no_grad():
        return tokens.outputs(torch.tensor([row]), embedded=embedded)  # type: ignore[no-any-return]


def close(ours: Tensor | None, theirs: Tensor) -> None:
    assert ours is not None
    torch.testing.assert_close(ours, theirs, rtol=0, atol=PARITY)


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("layout", PEERS_OWN)
def test_the_sequence_is_diffusers_own(layout: str, count: int, tmp_path: Path) -> None:
    name, content = SINGLE[layout]
    stored = vectors(count).clone()
    path = save(tmp_path / name, content(stored))
    pipe = pipeline("l")
    source = stored if layout == "tensor" else str(path)
    with quiet():
        pipe.load_textual_inversion(source, token="<cat>")
        theirs, _ = pipe.encode_prompt("a <cat> in snow", "cpu", 1, False)
    [found] = read_inversion(path, "<cat>")
    close(splice("l", "a ", found, " in snow", "clip_l").sequence, theirs.detach())
    plain, _ = pipe.encode_prompt("a dog in snow", "cpu", 1, False)
    assert (plain - theirs).abs().max() > 100 * PARITY  # the vectors do matter


def test_both_encoders_of_sdxl_are_diffusers_own(tmp_path: Path) -> None:
    rows = {"clip_l": vectors(2, 32), "clip_g": vectors(2, 40, seed=1)}
    [found] = read_inversion(save(tmp_path / "x.safetensors", rows), "<cat>")
    for kind, part in (("l", "clip_l"), ("g", "clip_g")):
        pipe = pipeline(kind)
        with quiet():
            pipe.load_textual_inversion(rows[part], token="<cat>")
        prompt = pipe.maybe_convert_prompt("a <cat> in snow", pipe.tokenizer)
        ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt")
        with torch.no_grad():
            theirs = pipe.text_encoder(ids.input_ids, output_hidden_states=True)
        ours = splice(kind, "a ", found, " in snow", part)
        close(ours.sequence, theirs.last_hidden_state)


def test_pooling_reads_the_end_of_text_where_the_peer_reads_the_inversion(tmp_path: Path) -> None:
    """Legacy configs pool at the largest id, and added tokens have larger ones than the end."""
    [found] = read_inversion(save(tmp_path / "x.pt", {"<cat>": vectors(2, 40)}))
    pipe = pipeline("g")
    with quiet():
        pipe.load_textual_inversion({"<cat>": vectors(2, 40)})
    prompt = pipe.maybe_convert_prompt("a <cat> in snow", pipe.tokenizer)
    ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt")
    with torch.no_grad():
        theirs = pipe.text_encoder(ids.input_ids, output_hidden_states=True)
        row = theirs.last_hidden_state[0]
        right = pipe.text_encoder.text_projection(row[ids.input_ids[0].tolist().index(END)])
        wrong = pipe.text_encoder.text_projection(row[int(ids.input_ids[0].argmax())])
    close(theirs.text_embeds[0], wrong)
    ours = splice("g", "a ", found, " in snow", "clip_g").vectors
    assert ours is not None
    close(ours[0], right)
    assert (ours[0] - wrong).abs().max() > 100 * PARITY


def test_the_peer_reads_one_encoder_of_sdxl_as_a_token_called_clip_l(tmp_path: Path) -> None:
    """The reason why `read_inversion` looks for keys of encoders before tokens."""
    path = save(tmp_path / "cat.safetensors", {"clip_l": vectors()})
    pipe = pipeline("l")
    with quiet():
        pipe.load_textual_inversion(str(path))
    assert "clip_l" in pipe.tokenizer.added_tokens_encoder
    [found] = read_inversion(path)
    assert found.token == "cat"
