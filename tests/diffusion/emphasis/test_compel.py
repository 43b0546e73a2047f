import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.checkpoints import write
from ecliptic.diffusion.emphasis.weighting import move_from_empty
from ecliptic.diffusion.tokens.chunks import NO_WORD, Chunks
from ecliptic.inputs import Tokenizer
from tests import peers, tiny
from tests.diffusion.emphasis.weighted_chunks import START, emphasise, encode, weigh

CONTEXT = 16
LONG = "a red fox, a lazy dog. the quick brown cat jumps over one more wall, then sleeps all day."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compel")
    write(tiny.checkpoint("unprojected"), path, "transformers")
    return path


@cache
def provider(folder: Path, **options: Any) -> Any:
    """compel's own encoding of fragments, on the tiny tower."""
    compel, transformers = peers.compel(), peers.transformers()
    return compel.EmbeddingsProvider(
        tokenizer=transformers.CLIPTokenizer.from_pretrained(folder),
        text_encoder=transformers.CLIPTextModel.from_pretrained(folder).eval(),
        **options,
    )


@torch.no_grad()
def theirs(provider: Any, fragments: Sequence[tuple[str, float]]) -> tuple[Tensor, Tensor]:
    """compel's vectors (T, D) and ids (T,)."""
    vectors, ids = provider.get_embeddings_for_weighted_prompt_fragments(
        [[text for text, _ in fragments]],
        [[weight for _, weight in fragments]],
        should_return_tokens=True,
    )
    return vectors[0], ids[0]


def ours(fragments: Sequence[tuple[str, float]], like: Tensor) -> Chunks:
    """The rows of (T,) ids that compel laid out, with the fragments' weights and numbers."""
    ids = like.reshape(-1, CONTEXT)
    tokens = [
        (id_, weight, segment)
        for segment, (text, weight) in enumerate(fragments)
        for id_ in Tokenizer().encode(text)
    ]
    weights, segments = torch.ones(ids.shape), torch.full(ids.shape, NO_WORD)
    left = iter(tokens)
    for chunk, place in (ids < START).nonzero().tolist():
        id_, weights[chunk, place], segments[chunk, place] = next(left)
        assert id_ == ids[chunk, place]
    return Chunks(ids, weights, segments, segments)


def check(provider: Any, fragments: Sequence[tuple[str, float]]) -> Chunks:
    wanted, ids = theirs(provider, fragments)
    prompt = ours(fragments, ids)
    result = emphasise(prompt, "compel").flatten(0, 1)
    torch.testing.assert_close(result, wanted, atol=2e-5, rtol=0)
    return prompt


@pytest.mark.parametrize(
    "fragments",
    [
        [("a cat", 1.0)],
        [("a", 1.0), ("fluffy cat", 1.331), ("sits", 1.0)],
        [("a", 1.0), ("fluffy cat", 0.81), ("sits", 1.0)],
        [("a", 0.5), ("fluffy", 1.5), ("cat", 0.9), ("sits there", 0.1)],
        [("a cat", 0.0), ("and a dog", 1.0)],
        [("a cat", -1.5), ("and a dog", 0.7)],
        [("all of it", 0.6)],
        [("cat", 1.0), ("cat", 0.5), ("cat", 2.0), ("cat", 0.5)],
        [("one two three four five six seven", 1.2), ("eight nine ten a b c d", 0.4)],
    ],
)
def test_compel_itself_gives_the_same(folder: Path, fragments: Any) -> None:
    check(provider(folder), fragments)


def test_compel_gives_the_same_for_penultimate_states(folder: Path) -> None:
    kinds = peers.compel().ReturnedEmbeddingsType
    peer = provider(folder, returned_embeddings_type=kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED)
    fragments = [("a", 1.0), ("fluffy", 1.5), ("cat", 0.6)]
    wanted, ids = theirs(peer, fragments)
    tower = tiny.model(tiny.checkpoint("unprojected")).text_tower

    @torch.no_grad()
    def penultimate(given: Chunks) -> Tensor:
        outputs = tower.outputs(
            given.ids, layer=-2, final_norm=False, pooled=False, mask=given.mask
        )
        assert outputs.sequence is not None
        return outputs.sequence

    result = emphasise(ours(fragments, ids), "compel", encode=penultimate)[0]
    torch.testing.assert_close(result, wanted, atol=2e-5, rtol=0)


@pytest.mark.parametrize("mode", ["BRUTAL", "WORDS", "PHRASES", "SENTENCES"])
@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (1.2, 0.5, 1.0), (0.3, 1.0, 0.8)])
def test_compel_gives_the_same_over_chunks(folder: Path, mode: str, weights: Any) -> None:
    peer = provider(
        folder, truncate=False, split_long_text_mode=peers.compel().SplitLongTextMode[mode]
    )
    texts = LONG[:11], LONG[11:60], LONG[60:]
    prompt = check(peer, list(zip(texts, weights, strict=True)))
    assert len(prompt.ids) >= 2
    middle = prompt.segments == 1
    assert int(middle.any(dim=-1).sum()) >= 2  # the second fragment is cut in two


def test_a_fragment_cut_by_truncation_differs_from_compel_in_the_last_place_only(
    folder: Path,
) -> None:
    fragments = [("a cat", 1.0), (LONG, 0.5)]
    wanted, ids = theirs(provider(folder), fragments)
    result = emphasise(ours(fragments, ids), "compel")[0]
    torch.testing.assert_close(result[:-1], wanted[:-1], atol=2e-5, rtol=0)
    assert (result[-1] - wanted[-1]).abs().max() > 1e-3


def test_at_weight_zero_only_the_masked_encoding_is_left() -> None:
    prompt = weigh([1.0, 0.0, 1.0])
    seen = torch.ones(1, CONTEXT, dtype=torch.bool)
    seen[0, 2] = False
    masked = move_from_empty(encode(replace(prompt, mask=seen)), encode(weigh([])), prompt.weights)
    torch.testing.assert_close(emphasise(prompt, "compel"), masked, atol=2e-4, rtol=0)


def test_at_weight_one_half_it_is_the_middle_of_both() -> None:
    prompt = weigh([1.0, 0.5, 1.0])
    seen = torch.ones(1, CONTEXT, dtype=torch.bool)
    seen[0, 2] = False
    both = [encode(prompt), encode(replace(prompt, mask=seen))]
    middle = sum(move_from_empty(z, encode(weigh([])), prompt.weights) for z in both) / 2
    assert isinstance(middle, Tensor)
    torch.testing.assert_close(emphasise(prompt, "compel"), middle, atol=1e-5, rtol=0)


def test_two_light_fragments_are_masked_one_at_a_time_by_hand() -> None:
    def seen_places(given: Chunks) -> Tensor:
        """(1, T, 1): the number of places seen."""
        seen = torch.ones_like(given.ids) if given.mask is None else given.mask
        return seen.sum().float().expand(*given.ids.shape, 1)

    def halves(given: Chunks) -> Tensor:
        return seen_places(given) / 2

    result = emphasise(weigh([0.5, 0.25], length=3), "compel", encode=halves)[0, :, 0]
    t = math.tan(0.375 * math.pi)  # 2.41
    # everywhere but at the words: (8 + 6.5 + 2.41 * 6.5) / (1 + 1 + 2.41)
    assert round(float(result[0]), 2) == round((8 + 6.5 + t * 6.5) / (2 + t), 2) == 6.84


@pytest.mark.parametrize("heavier", [1.1, 1.5, 3.0])
def test_heavy_weights_alone_are_as_in_comfyui(heavier: float) -> None:
    prompt = weigh([1.0, heavier, 1.0], [heavier])
    assert torch.equal(emphasise(prompt, "compel"), emphasise(prompt, "comfyui"))


def test_a_mask_that_was_there_stays() -> None:
    masks = []

    def record(given: Chunks) -> Tensor:
        masks.append(given.mask)
        return encode(given)

    real = torch.arange(CONTEXT)[None] < 5
    emphasise(replace(weigh([0.5, 1.0]), mask=real), "compel", encode=record)
    assert masks[-1].int().tolist() == [[1, 0, 1, 1, 1] + [0] * 11]
