from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ecliptic.diffusion.emphasis.variants import REPLACEMENT
from ecliptic.diffusion.tokens.chunks import Chunks
from ecliptic.inputs import Tokenizer
from tests.diffusion.emphasis.weighted_chunks import emphasise, encode, weigh


class Counting:
    """(C, T, 1): the sum of the ids of words up to each token, in thousands; keeps what it saw."""

    def __init__(self) -> None:
        self.seen: list[Chunks] = []

    def __call__(self, given: Chunks) -> Tensor:
        self.seen.append(given)
        ids = torch.where(given.ids < 49406, given.ids, 0)
        return ids.cumsum(dim=-1).unsqueeze(-1) / 1000


def round_all(result: Tensor) -> list[float]:
    return [round(x, 2) for x in result.flatten().tolist()]


def test_the_replacement_is_a_plus() -> None:
    assert Tokenizer().encode("+") == [REPLACEMENT]


def test_a_light_word_is_mixed_with_its_replacement_by_hand() -> None:
    for name in ("down-weight", "comfy++", "adv-compel"):
        counting = Counting()
        result = emphasise(weigh([0.25, 1.0], context=4), name, encode=counting)
        # ids 1000, 1010: 1/4 of (1.00, 2.01) and 3/4 of (0.266, 1.276)
        assert round_all(result) == [0.0, 0.45, 1.46, 1.46]


def test_light_words_are_replaced_lightest_first_and_stay_replaced() -> None:
    counting = Counting()
    result = emphasise(weigh([0.75, 0.25, 1.0, 0.25], context=6), "down-weight", encode=counting)
    seen = [given.ids[0, 1:5].tolist() for given in counting.seen]
    assert seen == [
        [1000, 1010, 1020, 1030],
        [1000, 266, 1020, 266],
        [266, 266, 1020, 266],
    ]
    # the shares are 0.25, 0.5 and 0.25: 0.25 + 0.5 + 0.25 * 0.266 at the first word
    assert round_all(result)[1:5] == [0.82, 1.27, 2.29, 2.75]


def test_down_weight_reads_heavy_as_all_else_lighter() -> None:
    found = emphasise(weigh([2.0, 1.0]), "down-weight")
    torch.testing.assert_close(found, emphasise(weigh([1.0, 0.5]), "down-weight"))


def test_comfy_plus_plus_moves_only_the_heavy_word_by_hand() -> None:
    result = emphasise(weigh([1.0, 1.5, 1.0], context=5), "comfy++", encode=Counting())
    # ids 1000, 1010, 1020: 2.01 + 0.5 * (2.01 - 1.266) at the second
    assert round_all(result) == [0.0, 1.0, 2.38, 3.03, 3.03]


def test_comfy_plus_plus_replaces_heavy_words_one_at_a_time_whole_and_light_ones_not() -> None:
    counting = Counting()
    emphasise(weigh([1.5, 0.5, 1.2], context=8, length=2), "comfy++", encode=counting)
    seen = [given.ids[0, 1:7].tolist() for given in counting.seen]
    assert seen[1:] == [
        [1000, 1001, 266, 266, 1020, 1021],  # light
        [266, 266, 1010, 1011, 1020, 1021],
        [1000, 1001, 1010, 1011, 266, 266],
    ]


def test_adv_compel_is_comfyui_for_heavy_words() -> None:
    prompt = weigh([1.0, 1.5, 1.2])
    assert torch.equal(emphasise(prompt, "adv-compel"), emphasise(prompt, "comfyui"))


def test_adv_compel_keeps_heavy_words_heavy_while_light_ones_are_replaced() -> None:
    mixed, light = weigh([1.5, 0.4, 1.0]), weigh([1.5, 1.0, 1.0])
    gone = replace(light, ids=torch.where(mixed.weights < 1, REPLACEMENT, light.ids))
    parts = [emphasise(given, "comfyui") for given in (light, gone)]
    wanted = 0.4 * parts[0] + 0.6 * parts[1]
    torch.testing.assert_close(emphasise(mixed, "adv-compel"), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["down-weight", "comfy++", "adv-compel"])
def test_at_weight_zero_the_word_is_its_replacement(name: Any) -> None:
    prompt, gone = weigh([1.0, 0.0, 1.0]), weigh([1.0, 1.0, 1.0])
    gone.ids[0, 2] = REPLACEMENT
    torch.testing.assert_close(emphasise(prompt, name), encode(gone), atol=1e-6, rtol=0)


def test_a_replaced_textual_inversion_loses_its_vector() -> None:
    counting, vector = Counting(), torch.ones(8)
    prompt = replace(weigh([0.5, 1.0], context=4), vectors={(0, 1): vector, (0, 2): vector})
    emphasise(prompt, "comfy++", encode=counting)
    assert [set(given.vectors) for given in counting.seen] == [{(0, 1), (0, 2)}, {(0, 2)}]


def test_a_word_over_two_chunks_is_replaced_in_both() -> None:
    counting = Counting()
    prompt = weigh([1.5], [1.5], context=4)
    prompt.words[prompt.words == 1] = 0
    emphasise(prompt, "comfy++", encode=counting)
    assert [given.ids[:, 1].tolist() for given in counting.seen] == [[1000, 1010], [266, 266]]
