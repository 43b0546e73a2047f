"""The report of a call: both sides, every wording, alternative and step, budgets, warnings."""

import json
import pickle
import warnings
from typing import Any

import pytest

from ecliptic.diffusion import FAMILIES, ConditioningReport, ConditioningWarning
from ecliptic.inputs import TruncationWarning
from tests.diffusion.account.calls import WITH_TEXT, call, make
from tests.diffusion.parity import ours

TWO = [name for name in WITH_TEXT if len(FAMILIES[name].encoders) == 2]


def readings(report: ConditioningReport, side: str = "prompt") -> list[Any]:
    return [one for prompt in report.prompts if prompt.side == side for one in prompt.readings]


@pytest.mark.filterwarnings("ignore:the weights of words had no effect")
@pytest.mark.parametrize("family", FAMILIES)
def test_both_sides_of_every_family_are_reported(family: str) -> None:
    made = call(family, "a (red:1.3) fox", negative="blurry")
    report = made.report()
    assert report.family == family
    assert [prompt.side for prompt in report.prompts] == ["prompt", "negative"]
    assert {one.name: one.shape for one in report.tensors} == {
        name: tuple(x.shape) for name, x in made.tensors().items()
    }
    if family in WITH_TEXT:
        parts = [rule.part for rule in FAMILIES[family].encoders]
        parts += ["t5"] * bool(FAMILIES[family].language)
        assert [one.encoder for one in readings(report)] == parts
        assert [one.text for one in readings(report, "negative")] == ["blurry"] * len(parts)
        assert [row.weight for row in readings(report)[0].rows] == [1.0, 1.3, 1.0]
    else:
        assert report.prompts[0].origin == "images"
        rule = FAMILIES[family].image
        assert rule is not None
        assert report.prompts[1].origin == rule.negative


@pytest.mark.parametrize("family", WITH_TEXT)
def test_a_negative_that_was_not_given_says_what_stands_there(family: str) -> None:
    wanted = {"encode": "empty prompt", "zeros": "zeros", "if given": "none"}
    found = call(family, "a fox").report().prompts
    assert found[-1].side == "negative"
    assert found[-1].origin == wanted[FAMILIES[family].negative]
    assert call(family, "a fox", negative="").report().prompts[-1].origin == "given"


@pytest.mark.parametrize("family", TWO)
def test_the_second_wording_is_called_prompt_2(family: str) -> None:
    words = {"prompt_2": "a wolf", "negative": "blurry", "negative_2": "dull"}
    report = call(family, "a fox", **words).report()
    first, second = readings(report)[:2]
    assert (first.wording, first.title, first.holds) == ("prompt", "prompt", "a fox")
    assert (second.wording, second.title, second.holds) == ("prompt_2", "prompt 2", "a wolf")
    assert [one.title for one in readings(report, "negative")[:2]] == ["negative", "negative 2"]
    assert report.prompts[0].summary == "prompt: a fox; prompt 2: a wolf"
    assert second.same_as is None


def test_the_second_wording_of_flux_is_that_of_t5() -> None:
    report = ours("flux", "folder")("a fox", prompt_2="a long text").report()
    assert [(one.encoder, one.wording) for one in readings(report)] == [
        ("clip_l", "prompt"),
        ("t5", "prompt_2"),
    ]
    assert [one.output for one in readings(report)] == ["pooled", "sequence of 512 tokens"]
    without = call("flux", "a fox", t5=None).report()
    assert readings(without)[1].output == "nothing: no T5 was given"


def test_what_t5_reads_otherwise_than_clip_is_told_apart() -> None:
    report = call("sd3", "a (red:1.3) fox").report()
    assert report.prompts[0].summary == (
        "prompt for clip_l: a red fox; prompt for t5: a (red:1.3) fox"
    )
    assert call("sd3", "a red fox").report().prompts[0].summary == "a red fox"


def test_encoders_with_equal_tokens_are_grouped_and_others_are_not() -> None:
    (group,) = call("sdxl", "a fox").report().prompts[0].groups
    assert [one.encoder for one in group] == ["clip_l", "clip_g"]
    assert [one.same_as for one in group] == [None, "clip_l"]
    two = call("sdxl", "a fox!").report().prompts[0].groups  # clip_g reads "!" as padding
    assert [len(one) for one in two] == [1, 1]


def test_every_alternative_and_step_says_which_prompt_holds() -> None:
    made = call(
        "sd1", "a [cat:dog:3] AND a fox:0.5 AND [x|y]:0.25", negative="[dull:dark:5]", steps=6
    )
    found = made.report().prompts
    shown = [(one.side, one.alternative, one.weight, one.steps, one.summary) for one in found]
    assert shown == [
        ("prompt", 0, 1.0, ((1, 3),), "a cat"),
        ("prompt", 0, 1.0, ((4, 6),), "a dog"),
        ("prompt", 1, 0.5, ((1, 6),), "a fox"),
        ("prompt", 2, 0.25, ((1, 1), (3, 3), (5, 5)), "x"),
        ("prompt", 2, 0.25, ((2, 2), (4, 4), (6, 6)), "y"),
        ("negative", 0, 1.0, ((1, 5),), "dull"),
        ("negative", 0, 1.0, ((6, 6),), "dark"),
    ]
    for step in range(1, 7):
        here = made.at(step).alternatives
        holding = [
            one.readings[0].rows
            for one in found
            if one.side == "prompt" and any(a <= step <= b for a, b in one.steps)
        ]
        assert holding == [part.ledger.rows for part, _ in here]


def test_budgets_count_the_tokens_of_every_chunk_and_encoder() -> None:
    text = "a cat and a dog on a mat, " * 12 + "BREAK a fox"
    made = call("sdxl", text, long="chunk")
    for one in readings(made.report()):
        assert len(one.chunks) == 3 == made.tokens.shape[1] // 77
        assert {available for _, available in one.chunks} == {75}
        assert [used for used, _ in one.chunks] == [
            sum(row.chunk == number for row in one.rows) for number in range(3)
        ]
        assert one.used == len(one.rows)
    with (
        pytest.warns(TruncationWarning),
        pytest.warns(ConditioningWarning, match="BREAK starts no chunk"),
    ):
        cut = call("sdxl", text)
    for one in readings(cut.report()):
        assert (one.used, one.available) == (75, 75)
        assert len(one.dropped) == len(one.rows) - 75


def test_a_blend_has_its_parts_in_one_reading() -> None:
    (one,) = readings(call("sd1", '("a cat","a dog+").blend(1,0.5)', dialect="compel").report())
    assert [row.chunk for row in one.rows] == [0, 0, 1, 1]
    assert one.holds == "blend of 'a cat' 1, 'a dog' 0.5"


def test_the_texts_of_a_batch_are_numbered() -> None:
    report = make("sdxl")(["a cat", "a dog"], prompt_2=["a cat", "a wolf"]).report()
    assert [one.title for one in readings(report)] == [
        *("prompt, text 1 of 2", "prompt, text 2 of 2"),
        *("prompt, text 1 of 2", "prompt 2, text 2 of 2"),
    ]
    alone = make("sd3").each(["a cat", "a dog"])[1].report()
    shown = [(one.title, one.text, one.prompt) for one in readings(alone)]
    assert shown == [("prompt", "a dog", 0)] * 3


def test_warnings_of_the_call_are_notes_of_all_its_parts() -> None:
    with pytest.warns(TruncationWarning) as caught:
        made = call("sd1", "[a:b:2] " + "cat " * 90, steps=4)
    (note,) = made.report().notes
    assert (note.kind, note.text) == ("TruncationWarning", str(caught[0].message))
    assert caught[0].filename == call.__code__.co_filename
    assert made.at(3).report().notes == (note,)
    assert call("sd1", "a cat").report().notes == ()


def test_the_options_are_those_that_worked() -> None:
    options = call("sd1", "a cat", long="chunk", steps=4).report().options
    assert options == {
        "dialect": "a1111",
        "emphasis": "original",
        "long": "a1111",
        "clip_skip": None,
        "compat": "diffusers",
        "steps": 4,
        "chunk_ends": "own",
        "max_sequence_length": None,
    }


def test_the_json_has_the_documented_fields_and_survives_being_written() -> None:
    report = call("sdxl", "a (red:1.3) fox", negative="blurry").report()
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert found["version"] == 1
    assert list(found) == [
        *("version", "family", "title", "options", "tensors", "notes", "prompts")
    ]
    assert found["tensors"][0] == {"name": "tokens", "shape": [1, 77, 72], "dtype": "float32"}
    prompt = found["prompts"][0]
    assert list(prompt) == [
        *("side", "origin", "alternative", "weight", "steps", "second_pass", "readings")
    ]
    reading = prompt["readings"][1]
    tokens = reading.pop("tokens")
    assert reading == {
        "encoder": "clip_g",
        "text": "a (red:1.3) fox",
        "chunks": [{"used": 3, "available": 75}],
        "wording": "prompt",
        "prompt": 0,
        "batch": 1,
        "holds": "a red fox",
        "output": "sequence and projected pooled",
        "same_as": "clip_l",
        "notes": [],
        "dropped": 0,
        "used": 3,
        "available": 75,
    }
    assert [row["text"] for row in tokens] == ["a", "red", "fox"]


def test_a_report_can_be_sent_to_another_process() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = call("sd3", "cat " * 90)
    again = pickle.loads(pickle.dumps(made))
    assert again.report() == made.report() == pickle.loads(pickle.dumps(made.report()))
