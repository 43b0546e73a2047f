"""Messages cannot control a terminal, whatever a file or user put into them."""

import pickle
import unicodedata

import pytest
from hypothesis import given, strategies as st

from ecliptic import errors
from ecliptic.errors import (
    EclipticError,
    ImageError,
    WeightsMismatchError,
    note_warnings,
    printable,
    warn,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Ja", r"\x1b[2Ja"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\x08", r"a\rb\x08"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("\x9b31m", r"\x9b31m"),
        ("\udc80", r"\udc80"),
        ("é 日本 👩‍👩‍👧 ن\u200cم", "é 日本 👩‍👩‍👧 ن\u200cم"),
    ],
)
def test_what_controls_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_newlines_of_a_message_can_stay() -> None:
    assert printable("a\n\tb\r", lines=True) == "a\n\tb\\r"


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    shown = printable(text)
    assert not any(unicodedata.category(character) in ("Cc", "Cs") for character in shown)
    assert printable(shown) == shown
    shown.encode()


KINDS = [kind for name, kind in vars(errors).items() if name.endswith("Error")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_one_printable_line(kind: type[EclipticError]) -> None:
    shown = str(kind("model\x1b\nerror: forged\r\n\x85\u2028\x0b\t.pt"))
    assert shown.splitlines() == [shown]
    assert shown.isprintable()
    assert r"model\x1b\nerror: forged\r\n\x85\u2028\x0b\t.pt" in shown.replace("\\\\", "\\")


def test_a_message_of_several_lines_has_only_those_of_its_author() -> None:
    error = WeightsMismatchError("a\nforged:", "  b\nforged", "c")
    assert str(error).splitlines() == [r"a\nforged:", r"  b\nforged", "c"]
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_errors_survive_pickling() -> None:
    again = pickle.loads(pickle.dumps(ImageError("a\x1b", source="b")))
    assert (str(again), again.source) == (r"a\x1b", "b")


def test_warnings_are_printable_and_name_the_line_of_the_caller() -> None:
    with pytest.warns(UserWarning, match=r"^a\\x1b\\n\\u202e$") as caught:
        warn("a\x1b\n\u202e")
    assert caught[0].filename == __file__


def test_warnings_of_a_block_are_noted_and_still_shown() -> None:
    def run() -> list[list[tuple[str, str]]]:
        with note_warnings() as outer:
            with note_warnings() as inner:
                warn("one\x1b")
            warn("two", RuntimeWarning)
        return [inner, outer]

    with pytest.warns() as shown:
        inner, outer = run()
    assert inner == [("UserWarning", r"one\x1b")]
    assert outer == [*inner, ("RuntimeWarning", "two")]
    assert [str(one.message) for one in shown] == [r"one\x1b", "two"]
