"""What has no effect in a call is said once, at the user's line."""

import re
import warnings
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args

import pytest
import torch
from PIL import Image

from ecliptic.diffusion import (
    FAMILIES,
    ConditioningWarning,
    Dialect,
    Emphasis,
    Hires,
    Options,
    Sizes,
    conditioner,
)
from ecliptic.errors import ConfigError, EclipticError
from ecliptic.inputs import TruncationWarning
from tests.diffusion import pipelines
from tests.diffusion.test_conditioner import make

TEXTUAL = [name for name, row in FAMILIES.items() if row.encoders]
LONG = "fox " * 100
T5 = {"t5": torch.ones(1, 3, pipelines.T5_WIDTH)}


def said(call: Callable[[], Any]) -> tuple[Any, str]:
    """The result of a call, and its ConditioningWarning; at most one, at this file's line."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    found = [one for one in caught if issubclass(one.category, ConditioningWarning)]
    assert len(found) <= 1
    assert all(one.filename == __file__ for one in found)
    return result, " ".join(str(one.message) for one in found)


@pytest.mark.parametrize(
    ("family", "prompt", "options", "words"),
    [
        ("sd1", "a BREAK b", {"dialect": "a1111"}, 'BREAK starts no chunk .* pass long="chunk"'),
        ("sdxl", "a", {"negative_2": "x"}, "negative_2 had no effect: without negative, .* zeros"),
        ("flux", "a", {"negative_2": "x"}, "negative_2 had no effect: without negative, .* left"),
        ("flux", "a", {"prompt_2": "x"}, "no T5 to read prompt_2, so it has no effect"),
        ("sd1", "a b.swap(c)", {"dialect": "compel"}, "swap at position 2 is left out"),
        ("sd1", "a withLora(x, 0.5)", {"dialect": "compel"}, "the LoRA 'x' at position 2"),
        ("sd1", '("a", "b").and() c', {"dialect": "compel"}, r"'c' after \.and\(\) is left out"),
        ("sd1", "a [x:b:30]", {"dialect": "a1111", "steps": 9}, "'b' at position 5 is never read"),
        ("sd1", "[b:1.1] a", {"dialect": "a1111", "steps": 9}, "'b' at position 1 is never read"),
        ("sd1", "[b|c|d] a", {"dialect": "a1111", "steps": 2}, "'d' at position 5 is never read"),
        ("flux", "a (b:1.3)", {"dialect": "a1111"}, "the weights of words had no effect: FLUX.1"),
        ("flux", "a BREAK b", {"dialect": "a1111", "long": "chunk"}, "BREAK starts no chunk"),
        ("flux", "a", {"clip_skip": 1}, "clip_skip had no effect: FLUX.1 reads only the pooled"),
        ("flux", "a", {"emphasis": "comfyui"}, "emphasis and the weights .* had no effect"),
        ("flux", "a", T5 | {"negative_t5": T5["t5"]}, "negative_t5 had no effect: without"),
        ("flux", "a", T5 | {"negative": "b"}, "negative has no effect on FLUX.1 without"),
        ("sd1", "a", {"emphasis": "comfyui"}, 'the dialect "plain" has no weights'),
        ("sd1", "a", {"chunk_ends": "mean"}, "chunk_ends had no effect: the layout"),
        ("flux", "a", {"chunk_ends": "mean"}, "chunk_ends had no effect: FLUX.1 reads only"),
        ("sd1", "a", {"emphasis": Emphasis(balance=0.2)}, "balance of emphasis had no effect"),
        ("sd1", "a", {"sizes": Sizes()}, "sizes had no effect"),
        ("sdxl", "a", {"sizes": Sizes(aesthetic=9)}, "aesthetic of sizes had no effect"),
        ("sdxl-refiner", "a", {"sizes": Sizes(target=(8, 8))}, "target of sizes had no effect"),
        ("sdxl", "a", {"patches": True}, "patches had no effect without images"),
        ("sdxl", "a", {"clip_skip": 1, "compat": "a1111"}, "a1111 ignores clip skip on Stable"),
    ],
)
def test_what_has_no_effect_is_said(family: str, prompt: str, options: Any, words: str) -> None:
    _, message = said(lambda: make(family)(prompt, **options))
    assert re.search(words, message), message


@pytest.mark.parametrize(
    ("family", "prompt", "options"),
    [
        ("sd1", "a BREAK b", {"dialect": "a1111", "long": "chunk"}),
        ("sdxl", "a", {"negative": "", "negative_2": "x"}),
        ("sdxl", "a", {"negative_2": "x", "compat": "comfyui"}),
        ("sd1", "a", {"dialect": "a1111", "emphasis": "comfyui", "steps": 20}),
        ("sd1", "a [b:c:0.5]", {"dialect": "a1111", "steps": 20}),
        ("sd1", "[a|b] c", {"dialect": "a1111", "steps": 20}),
        ("sd1", "a", {"emphasis": "ignore"}),
        ("flux", "a", {"negative": "b"}),
        ("sdxl", "a", {"sizes": Sizes(crop=(8, 8))}),
    ],
)
def test_what_has_an_effect_or_is_usual_is_not_said(family: str, prompt: str, options: Any) -> None:
    assert said(lambda: make(family)(prompt, **options))[1] == ""


def test_options_of_text_beside_images_alone_are_said() -> None:
    picture = Image.new("RGB", (32, 32))
    how: Any = {"negative": "x", "dialect": "a1111", "long": "chunk", "steps": 3}
    adapter = conditioner(
        "ip-adapter", encoders=pipelines.encoders("ip-adapter-alone"), any_size=True
    )
    _, message = said(lambda: adapter(images=[picture], **how))
    assert "negative, dialect, long, steps had no effect" in message


def test_only_the_first_chunk_is_kept_where_only_the_pooled_vector_is_read() -> None:
    for long in ("chunk", "truncate"):
        with pytest.warns(TruncationWarning, match="only the pooled vector is read"):
            found = make("flux")(LONG, long=long)
        rows = found.ledger.rows
        assert [row.kept for row in rows] == [True] * 75 + [False] * 25
        assert torch.equal(found.pooled, make("flux")("fox " * 75).pooled)  # type: ignore[arg-type]
    with pytest.warns(TruncationWarning, match="loses 'b'"):
        joined = make("flux")('("a", "b").and()', dialect="compel")
    assert [row.kept for row in joined.ledger.rows] == [True, False]
    blended = make("flux")('("a", "b").blend(1, 1)', dialect="compel")
    assert all(row.kept for row in blended.ledger.rows)


def test_a_normalization_of_weights_that_are_ignored_is_refused() -> None:
    with pytest.raises(ConfigError, match="ignore"):
        Emphasis("ignore", normalization="mean")


def test_clip_skip_is_checked_where_it_has_no_effect_too() -> None:
    with pytest.raises(ConfigError, match="from 0"):
        make("flux")("a", clip_skip=-1)


# --- every option, family and dialect -----------------------------------------------------------

PROMPT = (
    "a (red:1.3) (elk:0.7) (fox)0.8 [dog]+! BREAK b, " + "fox " * 78
)  # weights in every dialect
NO_DIFFERENCE = {  # option -> why a value may change nothing and is not named
    "steps": "a fact about the sampling, which most prompts do not need",
    "grad": "the numbers are the same",
}


def values(name: str) -> list[Any]:
    about = Options.about(name)
    if about.metadata["values"]:
        return [value for value in about.metadata["values"] if value != about.default]
    return {"clip_skip": [1], "steps": [7], "grad": [True], "max_sequence_length": [7]}[name]


def outcome(family: str, **options: Any) -> tuple[Any, str]:
    """The tensors and the ledger of a call, and all that it warned of or refused."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = make(family)(PROMPT, **options)
        except EclipticError as error:
            return None, str(error)
    sums = {
        name: (x.shape, x.dtype, x.square().sum().item()) for name, x in found.tensors().items()
    }
    return (sums, found.ledger), " ".join(str(one.message) for one in caught)


def usual(name: str, options: Options) -> bool:
    """Whether a value is what the dialect, or the tool, does without it."""
    if name == "emphasis":
        named = options.weighting.name
        return named in ("ignore", Options(dialect=options.dialect).weighting.name)
    return name == "compat" or (name == "long" and options.layout == Options().layout)


@pytest.mark.parametrize("family", TEXTUAL)
@pytest.mark.parametrize("name", [one.name for one in fields(Options)])
def test_every_value_of_every_option_changes_something_or_is_named(family: str, name: str) -> None:
    every = name != "dialect" and family in ("sd1", "flux")
    for dialect in get_args(Dialect) if every else ["a1111"]:
        how = {} if name == "dialect" else {"dialect": dialect}
        how |= {"long": "chunk"} if name in ("emphasis", "chunk_ends") else {}
        before, _ = outcome(family, **how)
        assert before is not None
        for value in values(name):
            after, message = outcome(family, **how | {name: value})
            if after != before or name in NO_DIFFERENCE:
                continue
            named = name in message.replace("clip skip", "clip_skip")
            assert named or usual(name, Options.of(how | {name: value})), (dialect, value, message)


ARGUMENTS: dict[str, Any] = {
    "negative": "blurry",
    "prompt_2": "in oil",
    "negative_2": "blurry",
    "patches": True,
    "t5": T5["t5"],
    "negative_t5": T5["t5"],
    "sizes": Sizes((8, 8), (1, 2), (3, 4), 5.0, 6.0),
    "images_per_prompt": 2,
}


@pytest.mark.parametrize("family", TEXTUAL)
def test_every_argument_of_a_call_changes_something_or_is_named(family: str) -> None:
    before, _ = outcome(family)
    for name, value in ARGUMENTS.items():
        after, message = outcome(family, **{name: value})
        assert after != before or name in message, name


@pytest.mark.parametrize("family", ["flux", "sd3"])
@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("x (b:1.2)", "x b"),
        ("x <lora:y:1>", "x"),
        ("ratio 16:9", "ratio 16"),
        ("x BREAK b", "x b"),
        (r"x \(b\) ", ""),
        ("x b", ""),
    ],
)
def test_syntax_in_wordings_that_only_t5_reads_is_said(family: str, text: str, read: str) -> None:
    name = "2" if family == "flux" else "3"
    made = conditioner(family, pipelines.folder(family), any_size=True)
    wordings = {f"prompt_{name}": text, "negative": "", f"negative_{name}": text}
    _, message = said(lambda: made("a", dialect="a1111", **wordings))
    assert message == (
        f"T5 reads {text!r} as {read!r}: weights, networks and other syntax have no effect on it."
        if read
        else ""
    )


def test_the_second_pass_is_looked_at_too() -> None:
    how = {"dialect": "a1111", "steps": 4}
    found, message = said(lambda: make("sd1")("a", **how, hires=Hires(4, prompt="x BREAK b")))
    assert "BREAK starts no chunk" in message
    assert [note.text for note in found.hires.report().notes] == [message]
    made = conditioner("flux", pipelines.folder("flux"), any_size=True)
    _, message = said(lambda: made("a", **how, hires=Hires(4, prompt="(b:1.3)")))
    assert "the weights of words had no effect: FLUX.1" in message
