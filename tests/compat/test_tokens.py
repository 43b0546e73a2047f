import pytest
import regex
import torch

from ecliptic.compat import clip, open_clip
from ecliptic.errors import TextTooLongError, UnknownModelError
from ecliptic.inputs import TruncationWarning
from tests import peers

TEXTS = ["a diagram", "a dog", "", "Ünïcode &amp; emoji 🐙!", "x" * 70, "should've 1234"]
LONG = "word " * 100


def test_tokens_are_the_originals_in_shape_type_and_value() -> None:
    wanted = peers.open_clip().tokenize(TEXTS)
    found = clip.tokenize(TEXTS)
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), wanted)
    assert torch.equal(open_clip.tokenize(TEXTS), wanted)
    assert torch.equal(open_clip.get_tokenizer("ViT-B-32")(TEXTS), wanted)
    assert clip.tokenize("a dog").shape == (1, 77)
    assert clip.tokenize("a dog", context_length=20).shape == (1, 20)


def test_a_long_text_raises_what_old_scripts_catch() -> None:
    with pytest.raises(RuntimeError, match="77 tokens"):
        clip.tokenize(LONG)
    with pytest.raises(TextTooLongError):
        clip.tokenize(["fine", LONG])
    assert clip.tokenize(LONG, truncate=True)[0, -1] == 49407


def test_open_clip_cuts_as_before_but_says_so() -> None:
    tokenizer = open_clip.get_tokenizer("ViT-L-14")
    with pytest.warns(TruncationWarning, match="word"):
        found = tokenizer([LONG])
    assert torch.equal(found, peers.open_clip().tokenize([LONG]))
    assert tokenizer("a", context_length=5).shape == (1, 5)


def test_the_tokenizers_dictionaries_are_the_originals() -> None:
    theirs = peers.open_clip().SimpleTokenizer()
    ours = open_clip.get_tokenizer("ViT-B-32")
    assert ours.encoder == theirs.encoder
    assert ours.decoder == theirs.decoder
    for name in ("vocab_size", "sot_token_id", "eot_token_id", "all_special_ids", "context_length"):
        assert getattr(ours, name) == getattr(theirs, name)
    old = clip.simple_tokenizer.SimpleTokenizer()
    assert old.encoder["<|endoftext|>"] == 49407
    assert old.decoder[49406] == "<|startoftext|>"


def test_encode_and_decode_agree_with_the_original() -> None:
    theirs, ours = peers.open_clip().SimpleTokenizer(), open_clip.get_tokenizer()
    for text in [*TEXTS, "<start_of_text>a cat<end_of_text>"]:
        ids = theirs.encode(text)
        assert ours.encode(text) == ids
        assert ours.decode(ids) == theirs.decode(ids)
    old = clip.simple_tokenizer.SimpleTokenizer()
    assert old.encode("<|startoftext|>hi<|endoftext|>") == [49406, 1883, 49407]
    assert old.decode([49406, 1883, 49407]) == "<|startoftext|>hi <|endoftext|>"


PIPES = r"<\|startoftext\|>|<\|endoftext\|>"  # openai/CLIP clip/simple_tokenizer.py
SPECIALS = [
    "a <|endoftext|> b",
    "a <end_of_text> b",
    "<|startoftext|>a<|endoftext|>",
    "<start_of_text>a<end_of_text>",
    "!!<|endoftext|>!!<end_of_text>!!",
    "a <END_OF_TEXT> b &lt;end_of_text&gt;",
]


def test_special_strings_in_a_text_are_read_as_open_clip_reads_them() -> None:
    wanted = peers.open_clip().tokenize(SPECIALS)
    assert torch.equal(open_clip.tokenize(SPECIALS), wanted)
    assert torch.equal(open_clip.get_tokenizer("ViT-B-32")(SPECIALS), wanted)
    assert torch.equal(open_clip.tokenizer._tokenizer(SPECIALS), wanted)


def test_special_strings_in_a_text_are_read_as_openai_clip_reads_them() -> None:
    """openai/CLIP has the same code with other strings, so open_clip's shows what it does."""
    theirs = peers.open_clip().SimpleTokenizer()
    theirs.pat = regex.compile(
        theirs.pat.pattern.replace("<start_of_text>|<end_of_text>", PIPES), regex.IGNORECASE
    )
    for old, new in (("<start_of_text>", "<|startoftext|>"), ("<end_of_text>", "<|endoftext|>")):
        theirs.encoder[new], theirs.cache[new] = theirs.encoder.pop(old), new
        del theirs.cache[old]
    assert torch.equal(clip.tokenize(SPECIALS).long(), theirs(SPECIALS))


def test_a_long_text_is_answered_with_arguments_that_exist() -> None:
    with pytest.raises(RuntimeError, match="pass truncate=True") as raised:
        clip.tokenize(LONG)
    assert "overflow" not in str(raised.value)
    with pytest.warns(TruncationWarning) as warned:
        open_clip.tokenize(LONG)
    assert "overflow" not in str(warned[0].message)
    assert str(warned[0].filename) == __file__


def test_decode_gives_open_clips_text() -> None:
    ids = open_clip.tokenize(TEXTS)
    for row in ids:
        assert open_clip.decode(row) == peers.open_clip().decode(row)


def test_a_name_that_nothing_has_is_refused() -> None:
    with pytest.raises(UnknownModelError):
        open_clip.get_tokenizer("ViT-B-23")
