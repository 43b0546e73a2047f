"""The page of a call: parsed as a browser parses it, with every row and nothing of the user's."""

import re
import warnings
from html.parser import HTMLParser
from typing import Any

import pytest

from ecliptic.diffusion import FAMILIES, Conditioning, report_html
from tests.diffusion.account.calls import HOSTILE, WITH_TEXT, call

VOID = {"meta"}
LONG = "a (cat:1.4) and a (dog:0.5) on a mat, " * 9


class Page(HTMLParser):
    """Collects the text inside each kind of element, and checks that elements close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.seen: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kind = dict(attrs).get("class") or ""
        for key in {tag, f"{tag}.{kind}"}:
            self.seen.setdefault(key, []).append("")
        self.attributes += attrs
        if tag not in VOID:
            self.open.append((tag, f"{tag}.{kind}"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for key in {key for pair in self.open for key in pair}:
            self.seen[key][-1] += data


def show(made: Conditioning, title: str = "") -> Page:
    return Page(report_html(made.report(), title))


def quiet(*words: str, **options: Any) -> Conditioning:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call(*words, **options)


@pytest.mark.filterwarnings("ignore:the weights of words had no effect")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_of_every_family_has_both_sides_and_every_row(family: str) -> None:
    report = call(family, "a (red:1.3) fox", negative="blurry").report()
    page = Page(report_html(report))
    assert page.seen["dt"][:2] == ["prompt", "negative"]
    assert page.seen["h1"] == page.seen["title"] == [report.title]
    tables = [group[0].rows for prompt in report.prompts for group in prompt.groups]
    rows = [row for table in tables for row in table]
    assert page.seen.get("td.text", []) == [
        row.text + f"token {row.piece}" * (row.piece != row.text) for row in rows
    ]
    if family in WITH_TEXT:
        assert page.seen["h2"][0] == "Prompt"
        assert "Negative" in page.seen["h2"]
        about = [value for name, value in page.attributes if name == "data-about" and value]
        for row in rows:
            assert any(f"{row.piece} {row.id}" in text for text in about)


def test_weights_have_colours_lines_and_numbers() -> None:
    page = show(call("sd1", "a (red dog:1.5) [fox] (cat:0.1) (sky:-1)"))
    assert page.seen["span.token up by3"] == ["red", "dog1.5"]
    assert page.seen["span.token down by1"][-1] == "fox0.909"
    assert page.seen["span.token down by4"][-2:] == ["cat0.1", "sky−1"]
    assert page.seen["sup"] == ["1.5", "0.909", "0.1", "−1"]
    assert page.seen["p.prompt"][:1] == ["a (red dog1.5:1.5) [fox0.909] (cat0.1:0.1) (sky−1:-1)"]


def test_chunks_are_lines_and_dropped_words_are_struck_through() -> None:
    made = call("sd1", LONG, long="chunk")
    page = show(made)
    chunks = [pair for side in made.report().prompts for pair in side.readings[0].chunks]
    assert len(chunks) == 3
    assert [text.partition(" ")[2][1:] for text in page.seen["p.room"]] == [
        f"{used} of {available}" for used, available in chunks
    ]
    assert len(page.seen["div.chunk"]) == len(chunks)
    assert "div.chunk dropped" not in page.seen
    cut = show(quiet("sd1", LONG))
    assert len(cut.seen["div.chunk"]) == 2  # of the prompt, and of the empty negative
    (lost,) = cut.seen["div.chunk dropped"]
    assert lost.startswith("Dropped: ")
    assert lost.endswith(cut.seen["del"][-1])
    assert cut.seen["tr.dropped"]
    assert len(cut.seen["tr.dropped"]) == len(quiet("sd1", LONG).ledger.dropped)
    assert "TruncationWarning: the prompt loses" in cut.seen["li"][0]


def test_the_dropped_words_of_every_part_of_a_blend_are_shown() -> None:
    words = f'("{"cat " * 80}","{"dog " * 80}").blend(1,1)'
    page = show(quiet("sd1", words, dialect="compel"))
    (lost,) = page.seen["div.chunk dropped"]
    assert "cat" in lost
    assert "dog" in lost


def test_alternatives_and_steps_have_sections() -> None:
    page = show(call("sd1", "a [cat:dog:2] AND a fox:0.5", negative="[x|y]", steps=4))
    assert page.seen["h2"] == [
        "Prompt, alternative 1, weight 1, steps 1 to 2",
        "Prompt, alternative 1, weight 1, steps 3 to 4",
        "Prompt, alternative 2, weight 0.5, steps 1 to 4",
        "Negative, steps 1, 3",
        "Negative, steps 2, 4",
    ]
    assert page.seen["dd"][:5] == ["a cat", "a dog", "a fox", "x", "y"]
    assert page.seen["p.prompt"][0] == "a [cat:dog:2] AND a fox:0.5"
    assert "cat" in page.seen["span.token"]


@pytest.mark.parametrize("dialect", ["plain", "a1111"])
def test_nothing_of_a_user_becomes_markup_or_a_control(dialect: str) -> None:
    made = quiet("sdxl", HOSTILE, negative=HOSTILE, prompt_2=f"{HOSTILE} dog", dialect=dialect)
    text = report_html(made.report(), HOSTILE)
    page = Page(text)
    assert not {"script", "quotes"} & set(page.seen)
    assert not set("\x00\x1b\u202e") & set(text)
    assert r"\u202e" in text
    assert page.seen["title"] == [
        HOSTILE.replace("\x00", r"\x00").replace("\u202e", r"\u202e").replace("\x1b", r"\x1b")
    ]
    text.encode()


def test_the_page_needs_nothing_from_elsewhere_and_fits_a_phone() -> None:
    text = report_html(call("sdxl", "a fox").report())
    assert not re.search(r"https?:|<script|<link|@import|@font-face|url\(", text)
    assert "default-src 'none'" in text or "default-src &#x27;none&#x27;" in text
    assert "width=device-width" in text
    assert "prefers-color-scheme: dark" in text


def test_characters_of_several_tokens_are_shown_once() -> None:
    page = show(call("sd1", "a 🙂 b"))
    assert page.seen["p.prompt"][0] == "a 🙂 b"


def test_a_prompt_without_words_says_so() -> None:
    page = show(call("sd1", ""))
    assert page.seen["p.prompt"] == ["no words", "no words"]
    assert page.seen["dd"][:2] == ["the empty prompt", "none was given: the empty prompt"]
