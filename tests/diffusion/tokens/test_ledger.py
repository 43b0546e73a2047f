import json
from dataclasses import replace

import torch

from ecliptic.diffusion.options import ChunkLayout
from ecliptic.diffusion.tokens.chunks import lay_out
from ecliptic.diffusion.tokens.ledger import Ledger, describe_losses, read_tokens
from ecliptic.diffusion.tokens.tokens import tokenize
from ecliptic.inputs import Tokenizer
from ecliptic.prompts.reading import Break, Line, Segment

TOKENIZER = Tokenizer()
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
    return Ledger((read_tokens(prompt, [laid], encoder=encoder),))


def whole(prompt: str, **options: object) -> Ledger:
    return ledger(prompt, (Segment(prompt, origin=tuple(range(len(prompt)))),), **options)  # type: ignore[arg-type]


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
    found = read_tokens("ab", [laid, laid], encoder="L")
    assert [row.chunk for row in found.rows] == [0, 1, 2, 3]
    assert found.chunks == ((1, 3),) * 4
    assert (found.used, found.available) == (4, 12)


def test_ledgers_join_and_list_a_prompt_once() -> None:
    joined = ledger() + ledger(encoder="G") + whole("blurry")
    assert joined.prompts == (PROMPT, "blurry")
    assert [row.encoder for row in joined.rows[9:11]] == ["L", "G"]


def test_a_reading_knows_whether_another_encoder_reads_the_same() -> None:
    (own,), (other,) = ledger().readings, ledger(encoder="G").readings
    assert own.repeats(other)
    assert not own.repeats(replace(other, wording="prompt_2"))
    assert not own.repeats(ledger(encoder="G", context=9).readings[0])


def test_json_survives_being_written() -> None:
    found = ledger()
    again = json.loads(json.dumps(found.to_json()))
    assert again["prompts"] == [PROMPT]
    assert again["tokens"][2] == {
        "encoder": "L",
        "wording": "prompt",
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


def test_the_second_wording_and_the_negative_are_named_where_they_lose() -> None:
    (one,) = whole("a cat", context=3).readings
    titles = {"prompt_2": "prompt 2", "negative": "the negative", "negative_2": "negative 2"}
    for wording, title in titles.items():
        message = describe_losses(Ledger((replace(one, wording=wording),)))
        assert message.startswith(f"{title} loses 'cat'")


def test_long_losses_are_shortened_and_prompts_are_numbered() -> None:
    (first,), (second,) = whole("a cat", context=3).readings, whole("dog " * 60, context=4).readings
    second = replace(second, prompt=1)
    message = describe_losses(Ledger(tuple(replace(one, batch=2) for one in (first, second))))
    assert message.startswith("prompt, text 1 of 2 loses 'cat' (1 token for L); prompt, text 2 of")
    assert f"{'dog ' * 20}...'" in message
