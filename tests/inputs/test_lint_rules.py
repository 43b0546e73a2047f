"""The linter finds the words that CLIP cannot read, with their place; good captions pass."""

import json

import pytest
from hypothesis import given, settings

from ecliptic.inputs import Finding, Tokenizer, lint
from tests.inputs.texts import FIXED, texts

tokenizer = Tokenizer()

GOOD = [
    "a photo of a dog playing in the snow",
    "Two children's bicycles, red and blue, against a brick wall.",
    "a state-of-the-art kitchen (modern, white)",
    "it\u2019s a café in Zürich",
    "the cat on the mat by the door of the house",
]

BAD = [
    ("", "empty", ""),
    (" \x00\n", "empty", " \x00\n"),
    ("the red red Red car", "repeated-word", "red red Red"),
    ("a cat,cat, Cat", "repeated-word", "cat,cat, Cat"),
    ("dog, dog, and dog", "overused-word", "dog"),
    ("a supercalifragilisticexpialidocious", "split-word", "supercalifragilisticexpialidocious"),
    ("a cat <|endoftext|>", "stray-special", "<|endoftext|>"),
    ("a <Start_Of_Text> cat", "stray-special", "<Start_Of_Text>"),
    ("a (red hat:1.3) man", "weight-syntax", "(red hat:1.3)"),
    ("a ((shiny)) car", "weight-syntax", "((shiny))"),
    ("cat <lora:style:0.8>", "weight-syntax", "<lora:style:0.8>"),
    ("cat++ dog", "weight-syntax", "++"),
    ("a cat --ar 16:9", "weight-syntax", "--ar 16:9"),
    ("a photo", "vague", "photo"),
    ("an image of an image of a cat", "redundant", "image of an image of"),
    ("salt &amp; pepper", "entity", "&amp;"),
    ("a caf\u00c3\u00a9", "mojibake", "\u00c3\u00a9"),
    ("a\x07 cat", "control-characters", "\x07"),
    ("a 猫が好き cat", "foreign-script", "猫が好き"),
    ("made in 2024", "number", "2024"),
]


def codes(found: list[Finding]) -> list[str]:
    return [finding.code for finding in found]


@pytest.mark.parametrize("text", GOOD)
def test_good_captions_pass(text: str) -> None:
    assert lint(text, tokenizer) == []


@pytest.mark.parametrize(("text", "code", "quoted"), BAD)
def test_each_rule_finds_its_fault_where_it_stands(text: str, code: str, quoted: str) -> None:
    (finding,) = [finding for finding in lint(text, tokenizer) if finding.code == code]
    assert text[slice(*finding.span)] == quoted
    assert finding.message.endswith(".")


def test_over_long_text_tells_what_is_dropped_and_from_where() -> None:
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"] * 8
    (finding,) = [f for f in lint(" ".join(words), tokenizer) if f.code == "too-long"]
    assert finding.severity == "error"
    assert finding.span == (len(" ".join(words[:75])) + 1, len(" ".join(words)))
    assert "'six seven eight nine ten' is dropped" in finding.message


@given(texts())
@settings(FIXED, max_examples=500)
def test_b12_any_text_can_be_linted(text: str) -> None:
    found = lint(text, tokenizer)
    assert all(0 <= f.span[0] <= f.span[1] <= len(text) for f in found)
    assert [f.span for f in found] == sorted(f.span for f in found)
    json.dumps([finding.to_json() for finding in found])
