import pytest

from ecliptic.inputs import Tokenizer, TokenizerSpec, ledger
from ecliptic.report.showcase.results import TokenReading
from ecliptic.report.showcase.tokens import group_tokens, show_tokens
from tests.report.test_demonstration import Reader


def chips(text: str, context: int = 77) -> list[str]:
    """What the page shows of each token."""
    tokenizer = Tokenizer(TokenizerSpec(merges=8000, context=context))
    reading = TokenReading(text, tuple(ledger(text, tokenizer)), context)
    assert [token for group in group_tokens(reading.tokens) for token in group] == list(
        reading.tokens
    )
    shown = Reader(show_tokens(reading)).words
    return shown[1:-1]


@pytest.mark.parametrize("text", ["a crêpe", "日本語", "👩‍🚀 in space", "naïve façade", "ﷺ"])
def test_tokens_are_readable_text(text: str) -> None:
    shown = "".join(word for word in chips(text) if not word[:1].isdigit())
    assert "\\x" not in shown
    assert "�" not in shown
    for character in text.replace(" ", ""):
        assert character in shown


def test_tokens_of_one_character_share_a_chip() -> None:
    shown = chips("crêpe")
    assert shown[shown.index("ê") + 1] == "127 103"
    assert chips("a backslash \\xc3").count("\\") == 1


def test_dropped_tokens_are_shown_and_their_words_quoted() -> None:
    tokenizer = Tokenizer(TokenizerSpec(merges=8000, context=5))
    text = "one two three four crêpe"
    page = show_tokens(TokenReading(text, tuple(ledger(text, tokenizer)), 5))
    assert page.count('"dropped') >= 3
    assert "<s>four crêpe</s>" in page
