import json
from html.parser import HTMLParser

import pytest
import torch

from ecliptic.diffusion.options import ChunkLayout
from ecliptic.diffusion.tokens.chunks import lay_out
from ecliptic.diffusion.tokens.ledger import Ledger, describe_losses, ledger_of
from ecliptic.diffusion.tokens.ledger_page import ledger_html
from ecliptic.diffusion.tokens.tokens import tokenize
from ecliptic.inputs import Tokenizer
from ecliptic.prompts.reading import Break, Line, Segment

TOKENIZER = Tokenizer()
VOID = {"meta"}
PROMPT = r"a \(red:1.3) fox, style on the hill"
PARTS = (
    Segment("a (", 1.0, (0, 1, 3)),
    Segment("red", 1.3, (4, 5, 6)),
    Segment(" fox, style on the hill", 1.0, tuple(range(12, 35))),
)


def ledger(
    prompt: str = PROMPT,
    parts: tuple[Segment | Break, ...] = PARTS,
    *,
    layout: ChunkLayout = "truncate",
    context: int = 8,
    encoder: str = "L",
) -> Ledger:
    stream = tokenize(Line(parts), TOKENIZER, inversions={"style": torch.eye(2)})
    laid = lay_out(stream, layout, context=context, start=49406, end=49407, pad=0)
    return ledger_of(prompt, laid, encoder=encoder)


def whole(prompt: str, **options: object) -> Ledger:
    return ledger(prompt, (Segment(prompt, origin=tuple(range(len(prompt)))),), **options)  # type: ignore[arg-type]


class Page(HTMLParser):
    """Collects the text inside each kind of element, and checks that elements close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.setdefault(tag, []).append("")
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.seen[tag][-1] += data


def test_every_token_has_a_row_with_the_characters_it_came_from() -> None:
    found = ledger()
    assert [row.text for row in found.rows] == [
        *("a", "(", "red", "fox", ",", "style", "style", "on", "the", "hill")
    ]
    assert all(PROMPT[slice(*row.span)] == row.text for row in found.rows)
    assert [row.weight for row in found.rows] == [1.0, 1.0, 1.3, *[1.0] * 7]
    assert [row.inversion for row in found.rows] == [*[False] * 5, True, True, *[False] * 3]
    assert [(row.chunk, row.position) for row in found.rows[:2]] == [(0, 1), (0, 2)]


def test_rows_say_which_tokens_are_dropped() -> None:
    found = ledger()
    assert [row.kept for row in found.rows] == [*[True] * 6, *[False] * 4]
    assert [row.text for row in found.dropped] == ["style", "on", "the", "hill"]
    assert {(row.chunk, row.position) for row in found.dropped} == {(None, None)}


def test_tokens_of_later_lines_count_their_chunks_from_where_they_lie() -> None:
    stream = tokenize(Line((Segment("a"), Break(), Segment("b"))), TOKENIZER)
    laid = lay_out(stream, "a1111", context=5, start=49406, end=49407, pad=0)
    found = ledger_of("ab", laid, encoder="L", chunk=3)
    assert [row.chunk for row in found.rows] == [3, 4]


def test_ledgers_join_and_list_a_prompt_once() -> None:
    joined = ledger() + ledger(encoder="G") + whole("blurry")
    assert joined.prompts == (PROMPT, "blurry")
    assert [row.prompt for row in joined.rows] == [*[0] * 20, 1]
    assert [row.encoder for row in joined.rows[9:11]] == ["L", "G"]


def test_json_survives_being_written() -> None:
    found = ledger()
    again = json.loads(json.dumps(found.to_json()))
    assert again["prompts"] == [PROMPT]
    assert again["tokens"][2] == {
        "encoder": "L",
        "prompt": 0,
        "span": [4, 7],
        "text": "red",
        "piece": "red",
        "id": 736,
        "word": 2,
        "segment": 1,
        "weight": 1.3,
        "chunk": 0,
        "position": 3,
        "kept": True,
        "inversion": False,
    }


def test_the_table_has_a_line_for_each_token_whatever_it_holds() -> None:
    table = whole("a\x07\u202e cat", context=4).to_table().split("\n")
    assert table[0].split() == [
        *("encoder", "prompt", "chunk", "position", "id", "piece", "text", "weight", "kept")
    ]
    assert len(table) == 1 + len(whole("a\x07\u202e cat").rows)
    assert r"\x07" in table[2]
    assert table[-1].split()[2:4] == ["-", "-"]
    assert table[-1].split()[-1] == "dropped"


def test_what_is_lost_is_quoted_once_for_encoders_that_lose_the_same() -> None:
    both = whole("a cat and a dog", context=5) + whole("a cat and a dog", context=5, encoder="G")
    assert describe_losses(both) == (
        "the prompt loses 'a dog' (2 tokens for L and 2 tokens for G): more than the context "
        'holds. Shorten it, or pass a `long` layout with more chunks, such as long="chunk".'
    )
    assert describe_losses(whole("a cat")) == ""


def test_long_losses_are_shortened_and_prompts_are_numbered() -> None:
    message = describe_losses(whole("a cat", context=3) + whole("dog " * 60, context=4))
    assert message.startswith("prompt 0 loses 'cat' (1 token for L); prompt 1 loses 'dog dog")
    assert f"{'dog ' * 20}...'" in message


def test_the_page_shows_the_prompt_chunks_weights_and_what_is_dropped() -> None:
    page = Page(ledger_html(ledger(), "Tokens of a fox"))
    assert page.open == []
    assert page.seen["title"] == page.seen["h1"] == ["Tokens of a fox"]
    assert page.seen["h3"] == ["Chunk 0, 6 tokens", "Dropped, 4 tokens"]
    assert page.seen["del"] == ["style on the hill"]
    assert page.seen["sup"] == ["1.3"]
    assert page.seen["p"][1] == r"a \(red1.3:1.3) fox, style"
    assert len(page.seen["tr"]) == 1 + 10
    assert ("lang", "en") in page.attributes
    assert page.seen["caption"] == ["Tokens of Prompt 0, L"]


def test_weights_above_and_below_one_have_shades_of_their_own() -> None:
    parts = (Segment("a", 1.0, (0,)), Segment("b", 1.5, (1,)), Segment("c", 0.5, (2,)))
    page = Page(ledger_html(ledger("abc", parts)))
    styles = [value for name, value in page.attributes if name == "style" and value]
    assert len(set(styles)) == 3
    assert "100%" in styles[0]


def test_nothing_of_a_prompt_becomes_markup() -> None:
    nasty = "<script>alert('x')</script> & \"quotes\" \x00 cat"
    for shown in (
        ledger_html(whole(nasty, encoder="<b>"), "<i>"),
        ledger_html(Ledger((), (nasty,)), "<i>"),
    ):
        page = Page(shown)
        assert not {"script", "b", "i"} & set(page.seen)
        assert "\x00" not in shown
        assert page.seen["h1"] == ["<i>"]


def test_the_page_needs_nothing_from_elsewhere() -> None:
    shown = ledger_html(ledger())
    assert "http" not in shown
    assert "<script" not in shown
    assert "<link" not in shown


@pytest.mark.parametrize("found", [Ledger(), whole("")])
def test_a_page_without_tokens_says_so(found: Ledger) -> None:
    page = Page(ledger_html(found))
    assert page.open == []
    assert ("No tokens: the empty prompt." in page.seen["p"]) == bool(found.prompts)


def test_characters_of_several_tokens_are_shown_once_in_a_chunk() -> None:
    page = Page(ledger_html(whole("a 🙂 b", layout="a1111", context=20)))
    assert page.seen["p"][1] == "a 🙂 b"


def test_the_page_shows_controls_as_escapes() -> None:
    nasty = "a\x1b]0;t\x07\u202eb\x9b"
    page = ledger_html(whole(nasty, encoder=nasty), f"{nasty}\ud800")
    page.encode()
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(page)
    assert r"<title>a\x1b]0;t\x07\u202eb\x9b\ud800</title>" in page
