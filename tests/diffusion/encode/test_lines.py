"""An encoder gets each line once, the empty prompt once, and variants in few batches."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from ecliptic.diffusion import Conditioner, Options, conditioner
from ecliptic.diffusion.encode.lines import LineEncoder
from ecliptic.diffusion.tokens.chunks import Chunks
from ecliptic.model import TextOutputs
from ecliptic.prompts import Line, parse
from tests.diffusion import pipelines


class Runs:
    """Every run of one encoder of a fresh conditioner: the chunks of its prompts."""

    def __init__(self, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.conditioner: Conditioner = conditioner(
            family, encoders=pipelines.encoders(family), any_size=True
        )
        self.encoder = self.conditioner.encoders[0]
        self.prompts: list[Sequence[Chunks]] = []
        run = self.encoder.run

        def record(prompts: Sequence[Chunks], *given: Any, **options: Any) -> TextOutputs:
            self.prompts.append(prompts)
            return run(prompts, *given, **options)

        monkeypatch.setattr(self.encoder, "run", record)

    def words(self) -> list[list[int]]:
        """How many words each prompt of each run has."""
        return [[int((c.words >= 0).sum()) for c in prompts] for prompts in self.prompts]


@pytest.mark.parametrize("emphasis", ["comfyui", "compel", "adv-compel"])
def test_the_empty_prompt_is_encoded_once_beside_all_others(
    emphasis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs("sd1", monkeypatch)
    prompts = ["a (fox:1.2) BREAK a dog", "a (cat:1.3)", "plain words here"]
    runs.conditioner(prompts, dialect="a1111", emphasis=emphasis, long="chunk")
    (run,) = runs.words()
    assert sorted(run) == [0, 2, 3, 4]  # the negative is the empty prompt
    # a second call encodes it again, since the encoder may have changed
    runs.conditioner(prompts[1], dialect="a1111", emphasis=emphasis)
    assert sorted(runs.words()[1]) == [0, 2]


def test_the_variants_of_all_prompts_are_encoded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = Runs("sd1", monkeypatch)
    prompts = ["a (fox:0.5) and a (dog:0.7)", "a (cat:0.3)"]
    runs.conditioner(prompts, dialect="a1111", emphasis="compel")
    first, second = runs.prompts
    assert len(first) == 3
    masks = [None if chunks.mask is None else chunks.mask.sum() for chunks in second]
    assert masks == [76, 76, 76]
    assert [int(chunks.ids.shape[0]) for chunks in second] == [1, 1, 1]


LONG = {"dialect": "compel", "long": "compel-brutal"}


@pytest.mark.parametrize("count", [25, 100])
def test_a_light_fragment_is_encoded_again_in_its_own_chunk_only(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs("sd1", monkeypatch)
    runs.conditioner("".join(f"(a b c)0.{n % 9 + 1} " for n in range(count)), **LONG)
    _, *variants = [sum(map(len, prompts)) for prompts in runs.prompts]
    assert len(runs.prompts[0][0]) == -(-3 * count // 75)  # no chunk cuts a fragment in two
    assert sum(variants) == count
    assert max(variants) <= 32


@pytest.mark.parametrize("emphasis", ["adv-compel", "down-weight", "comfy++"])
def test_a_chunk_is_encoded_again_for_its_own_weights_only(
    emphasis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = Runs("sd1", monkeypatch)
    words = "".join(f"(a)0.{n:03} " for n in range(1, 101))  # 100 weights in 2 chunks
    runs.conditioner(words, emphasis=emphasis, **LONG)
    _, *variants = [sum(map(len, prompts)) for prompts in runs.prompts]
    assert sum(variants) == 100  # each weight changes one chunk


def test_a_line_is_encoded_once_however_often_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = Runs("sd1", monkeypatch)
    runs.conditioner(["a cat", "a cat", "a dog"], negative=["a dog", "blurry", "blurry"])
    assert runs.words() == [[2, 2, 1]]


@torch.no_grad()
def test_an_encoder_that_hides_padding_hides_it_in_the_empty_prompt_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = conditioner(
        "cascade", encoders=pipelines.encoders("cascade"), any_size=True
    ).encoders[0]
    masks: list[torch.Tensor | None] = []
    outputs = encoder.clip.runtime.text_outputs

    def record(ids: torch.Tensor, **options: Any) -> TextOutputs:
        masks.append(options["mask"])
        return outputs(ids, **options)

    monkeypatch.setattr(encoder.clip.runtime, "text_outputs", record)
    lines = LineEncoder(encoder, Options(dialect="a1111", emphasis="compel"), negative=False)
    reading = parse("a (cat:0.5)", "a1111").readings(None)[0].schedule[0][1]
    assert isinstance(reading, Line)
    lines.encode([reading])
    first, second = masks
    assert first is not None
    assert second is not None
    prompt, empty = first.int().tolist()
    assert prompt[:5] == [1, 1, 1, 1, 0]
    assert empty[:3] == [1, 1, 0]
    assert second.int().tolist()[0][:5] == [1, 1, 0, 1, 0]  # without the cat
