"""Texts: order, duplicates, batches, overflow, and errors that name the text."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import ecliptic
from ecliptic.engine import Clip
from ecliptic.errors import (
    ConfigError,
    InputError,
    MissingTowerError,
    NumericalError,
    ShapeError,
    TextError,
    TextTooLongError,
)
from ecliptic.inputs import TruncationWarning
from tests import tiny
from tests.engine.models import Calls, reload, replace_weights
from tests.engine.test_batches import CPU

TEXTS = ["two dogs", "a", "a photo of a red house by the sea", "", "a", "dogs two"]
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"


def test_vectors_are_unit_float32_on_cpu_and_fit_for_training(clip: Clip) -> None:
    found = clip.encode_text(TEXTS)
    assert (found.shape, found.dtype, str(found.device)) == ((6, 32), torch.float32, "cpu")
    torch.testing.assert_close(found.norm(dim=1), torch.ones(6))
    assert not found.is_inference()  # a head can be trained on them
    raw = clip.encode_text(TEXTS, normalize=False)
    assert not raw.is_inference()
    assert (raw.norm(dim=1) - 1).abs().min() > 0.01
    torch.testing.assert_close(F.normalize(raw, dim=1), found)


def test_a_single_text_is_one_row_and_none_are_no_rows(clip: Clip) -> None:
    torch.testing.assert_close(clip.encode_text("two dogs"), clip.encode_text(["two dogs"]))
    assert clip.encode_text([]).shape == (0, 32)
    assert clip.tokenize([]).shape == (0, 16)


@pytest.mark.parametrize("kind", [tuple, iter, list])
def test_any_ordered_iterable_will_do(clip: Clip, kind: Any) -> None:
    torch.testing.assert_close(clip.encode_text(kind(TEXTS)), clip.encode_text(TEXTS))


@pytest.mark.parametrize("size", [1, 2, 64])
def test_b15_batches_sorted_by_length_come_back_in_order(clip: Clip, size: int) -> None:
    alone = torch.cat([clip.encode_text(text) for text in TEXTS])
    cosines = F.cosine_similarity(clip.encode_text(TEXTS, batch_size=size), alone)
    assert cosines.min() > 1 - 1e-6


def test_equal_texts_are_encoded_once(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls.of("text", monkeypatch)
    found = clip.encode_text(["b", "a", "A ", "a", "b"] * 20, batch_size=64)
    assert calls.sizes == [2]
    assert torch.equal(found[1], found[2])
    assert torch.equal(found[0], found[99])


def test_batches_shrink_when_memory_runs_out(clip: Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = clip.encode_text(TEXTS)
    calls = Calls.of("text", monkeypatch, CPU, 2)
    torch.testing.assert_close(clip.encode_text(TEXTS), wanted)
    assert calls.sizes == [5, 2, 2, 1]


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_holds_at_least_one(clip: Clip, size: int) -> None:
    with pytest.raises(ConfigError, match="batch_size must be at least 1"):
        clip.encode_text("a", batch_size=size)


def test_overflow_reaches_the_tokenizer(clip: Clip) -> None:
    with pytest.warns(TruncationWarning, match="text 1 loses 'fifteen'"):
        cut = clip.encode_text(["a", LONG])
    torch.testing.assert_close(clip.encode_text(["a", LONG], overflow="truncate"), cut)
    with pytest.raises(TextTooLongError, match="fifteen"):
        clip.encode_text(LONG, overflow="error")
    with pytest.raises(ConfigError, match="overflow"):
        clip.encode_text("a", overflow="ignore")  # type: ignore[arg-type]
    torch.testing.assert_close(cut[1:], clip.encode_text(LONG.removesuffix(" fifteen")))


@pytest.mark.parametrize(
    ("texts", "error", "words"),
    [
        (None, TextError, "text 0: got NoneType"),
        (str.lower, TextError, "text 0: got method_descriptor"),
        (3, TextError, "text 0: got int"),
        (b"a", TextError, "decode them first"),
        (["a", None], TextError, "text 1: got NoneType"),
        (["a", "\ud800"], TextError, "text 1: .*surrogate"),
        ({"a": 1}, InputError, "texts come back as rows .* a dict is not a sequence"),
        ({"a"}, InputError, "a set is not a sequence; pass a list"),
    ],
)
def test_what_is_no_text_is_named(
    clip: Clip, texts: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        clip.encode_text(texts)


def test_b16_not_a_number_names_the_text(tmp_path: Path) -> None:
    checkpoint = tiny.checkpoint("vit")
    words = checkpoint.weights["text.token_embedding.weight"].clone()
    words[ecliptic.inputs.Tokenizer().encode("dog")] = torch.nan
    clip = reload(replace_weights(checkpoint, text_token_embedding_weight=words), tmp_path / "nan")
    with pytest.raises(NumericalError, match="text 2; "):
        clip.encode_text(["a", "b", "a dog", "c"])
    assert torch.isfinite(clip.encode_text(["a", "b", "c"])).all()


@pytest.mark.parametrize("kind", ["int64", "int32", "array", "row"])
def test_tokens_stand_for_their_texts(clip: Clip, kind: str) -> None:
    texts = ["a cat", "", "many words " * 40, "a cat"]
    tokens = clip.tokenize(texts, "truncate")
    wanted = clip.encode_text(texts, overflow="truncate")
    given: Any = {"int64": tokens, "int32": tokens.int(), "array": tokens.numpy(), "row": tokens[0]}
    found = clip.encode_text(given[kind])
    torch.testing.assert_close(found, wanted[:1] if kind == "row" else wanted)
    padded = torch.where(tokens == 0, 49407, tokens)  # as transformers pads
    torch.testing.assert_close(clip.encode_text(padded), wanted)
    assert clip.encode_text(tokens[:0]).shape == (0, clip.card.embed)


def test_what_are_no_tokens_of_the_model_is_named(clip: Clip) -> None:
    tokens = clip.tokenize(["a cat", "a dog"])
    wrong: list[tuple[Any, type[Exception], str]] = [
        (tokens.float(), TextError, "must be whole numbers, got torch.float32"),
        (tokens.bool().numpy(), TextError, "must be whole numbers, got bool"),
        (tokens[:, :5], ShapeError, r"must be \(N, 16\) .* got \(2, 5\)"),
        (tokens[None], ShapeError, r"got \(1, 2, 16\)"),
        (tokens - 10**6, TextError, r"row 0 .* outside 0 to 49407"),
        (torch.tensor([[0] * 16]), TextError, "row 0 of the tokens does not begin with 49406"),
        (tokens.clamp(max=49406), TextError, "row 0 of the tokens has no 49407, the end"),
    ]
    for given, error, words in wrong:
        with pytest.raises(error, match=words):
            clip.encode_text(given)


def test_the_bar_is_on_stderr_alone(clip: Clip, capsys: pytest.CaptureFixture[str]) -> None:
    silent = clip.encode_text(TEXTS)
    assert capsys.readouterr() == ("", "")
    torch.testing.assert_close(clip.encode_text(TEXTS, progress=True), silent)
    assert capsys.readouterr().out == ""


def test_an_image_encoder_says_that_it_has_no_text_side(tmp_path: Path) -> None:
    clip = reload(tiny.checkpoint("image"), tmp_path / "image")
    for ask in (clip.encode_text, clip.tokenize, clip.text_classifier):
        with pytest.raises(MissingTowerError, match="no text side"):
            ask(["a"])  # type: ignore[operator]


def test_a_warning_names_the_line_of_the_user_not_ours(clip: Clip) -> None:
    """Python shows a warning once for each line, so ours would hide all but the first."""
    long = "a cat " * 60
    calls = [
        clip.encode_text,
        clip.tokenize,
        lambda text: clip.similarity(text, clip.encode_text("x")),
    ]
    for call in calls:
        with pytest.warns(TruncationWarning) as seen:
            call(long)
        assert {warning.filename for warning in seen} == {__file__}
