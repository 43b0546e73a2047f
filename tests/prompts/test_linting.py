"""The linter of prompts points at wrong syntax, and reads the text without its syntax."""

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from ecliptic.errors import ConfigError, TextError
from ecliptic.inputs import Finding, Tokenizer, TokenizerSpec, lint
from ecliptic.prompts.dialects import DIALECTS, Dialect
from ecliptic.prompts.linting.lint import lint_prompt

TOKENIZER = Tokenizer()
END_PADDED = Tokenizer(replace(TokenizerSpec(), pad=TokenizerSpec().end_of_text))


def _found(prompt: str, dialect: Dialect, tokenizer: Tokenizer = TOKENIZER) -> list[Finding]:
    return lint_prompt(prompt, tokenizer, dialect)


def _codes(prompt: str, dialect: Dialect) -> list[str]:
    return [finding.code for finding in _found(prompt, dialect)]


@pytest.mark.parametrize(
    "text", ["a red fox", "a cat cat", "(a:1.2) ((b)) word++ BREAK", "", "word " * 90, "the 1234"]
)
def test_plain_prompts_get_the_findings_of_the_linter_of_texts(text: str) -> None:
    assert lint_prompt(text, TOKENIZER) == lint(text, TOKENIZER)


RULES = [  # (dialect, prompt, code, text it points at, words of the message)
    ("a1111", "a fox (in snow", "unbalanced-bracket", "(", "gives a weight to all words"),
    ("a1111", "a fox] in snow", "unbalanced-bracket", "]", "is text"),
    ("comfyui", "a fox (in snow", "unbalanced-bracket", "(", "rest of the prompt are read as text"),
    ("compel", "a fox) in snow", "unbalanced-bracket", ")", "and their weights are read as text"),
    ("a1111", "a (fox:1.0) in snow", "idle-weight", "(fox:1.0)", "changes nothing"),
    ("compel", "a (fox)1.0 in snow", "idle-weight", "(fox)1.0", "changes nothing"),
    ("a1111", "a fox () in snow", "idle-weight", "()", "contains no words"),
    ("a1111", "a (fox:3) in snow", "extreme-weight", "(fox:3)", "weight 3"),
    ("a1111", "((fox:1.4):1.4) in snow", "extreme-weight", "(fox:1.4)", "weight 1.96"),
    ("comfyui", "a (fox:0.1) in snow", "extreme-weight", "(fox:0.1)", "weight 0.1"),
    ("compel", "a fox++++++++ in snow", "extreme-weight", "fox++++++++", "weight 2.144"),
    ("a1111", "a (fox:-1) in snow", "negative-weight", "(fox:-1)", "negative prompt"),
    ("a1111", "(a fox BREAK in snow:1.2)", "break-in-brackets", "BREAK", "the word BREAK"),
    ("a1111", "a [fire:1.1] fox", "schedule-never-changes", "[fire:1.1]", "(...:1.1)"),
    ("a1111", "a [ice:fire:1.5] fox", "schedule-never-changes", "[ice:fire:1.5]", "the end"),
    ("a1111", "a [ice:fire:20] fox", "schedule-in-steps", "[ice:fire:20]", "step 20"),
    ("comfyui", "(a (fox:1.5) runs:0.8)", "replaced-weight", "(fox:1.5)", "replaces the 0.8"),
    ("a1111", "(unnecessary)(parens) here", "merged-words", "(unnecessary)(parens)", "merge"),
    ("compel", '("a fox", "snow").and() rest', "dropped-text", " rest", "drops the text after"),
    ("a1111", "a fox <lra:x:0.8> runs", "unknown-network", "<lra:x:0.8>", "the kind 'lra'"),
    ("a1111", "a fox, ratio 16:9 ", "trailing-weight", ":9", r"write ':\9'"),
    ("a1111", "a fox: 1.2<lora:x>", "trailing-weight", ": 1.2", "weight of the whole prompt"),
    ("plain", "a fox <lora:x:0.8> runs", "lora-tag", "<lora:x:0.8>", "not read here"),
    ("a1111", "a fox <lora:x:0.8> runs", "network", "<lora:x:0.8>", "merged into the text encode"),
    ("a1111", "a fox <lora:x:.8:0> runs", "network", "<lora:x:.8:0>", "encoders at 0.8, if loras"),
    ("a1111", "a fox <lora:x:0> runs", "network", "<lora:x:0>", "at scale 0 it changes no"),
    ("a1111", "a fox <lora:x:1:dyn=4> runs", "network", "<lora:x:1:dyn=4>", "not applied, since"),
    ("a1111", "a fox <hypernet:y> runs", "network", "<hypernet:y>", "not applied: hypernetworks"),
    ("compel", "a fox withLora(x, 0.8)", "network", "withLora(x, 0.8)", "not applied; merge the"),
    ("comfyui", "a fox <lora:x:0.8> runs", "lora-tag", "<lora:x:0.8>", "not read here"),
    ("compel", "a fox <lora:x:0.8> runs", "lora-tag", "<lora:x:0.8>", "not read here"),
    ("a1111", "a fox++ in snow", "other-dialect", "++", "compel's dialect"),
    ("comfyui", "(a fox)-- in snow", "other-dialect", "--", "compel's dialect"),
    ("a1111", "a fox.swap(dog) runs", "other-dialect", ".swap(", "compel's dialect"),
    ("comfyui", "a [fox:dog:0.5] runs", "other-dialect", "[fox:dog:0.5]", "A1111's dialect"),
    ("comfyui", "a fox BREAK in snow", "other-dialect", "BREAK", "A1111's dialect"),
    ("compel", "a fox AND a dog", "other-dialect", "AND", "A1111's dialect"),
    ("compel", "a (fox:1.2) runs", "other-dialect", "(fox:1.2)", "write (word)1.2"),
    ("compel", '("a","b").blend(1)', "unreadable", "1", "one weight for each"),
    ("a1111", "a (fox:1.2.3) runs", "unreadable", ":", "must be a finite number"),
    ("comfyui", "a (fox:inf) runs", "unreadable", ":", "must be a finite number"),
]


@pytest.mark.parametrize(("dialect", "prompt", "code", "place", "words"), RULES)
def test_every_rule_points_at_the_place(
    dialect: Dialect, prompt: str, code: str, place: str, words: str
) -> None:
    (finding,) = [one for one in _found(prompt, dialect) if one.code == code]
    assert prompt[slice(*finding.span)] == place
    assert words in finding.message


GOOD = [
    ("a1111", "a (red:1.3) fox, [snow] BREAK a \\(small\\) dog AND ice:0.5"),
    ("a1111", "a [fox:dog:0.5] runs, [ice|fire] un(happy)"),
    ("a1111", "a fox runs, ratio 16:\\9"),
    ("comfyui", "a (red:1.3) fox \\(in\\) snow, (a (tall) tree:0.8)"),
    ("compel", 'a (red)1.3 fox++ in "deep snow"- and ice'),
    ("compel", '("a fox", "deep snow").blend(1, 0.5)'),
]


@pytest.mark.parametrize(("dialect", "prompt"), GOOD)
def test_a_good_prompt_has_no_findings(dialect: Dialect, prompt: str) -> None:
    assert _codes(prompt, dialect) == []


def test_rules_of_text_read_the_prompt_without_its_syntax() -> None:
    prompt = "a (fox:1.2) [fox] in snow"
    (finding,) = [one for one in _found(prompt, "a1111") if one.code == "repeated-word"]
    assert prompt[slice(*finding.span)] == "fox:1.2) [fox"
    assert "weight-syntax" not in _codes("((a fox)) BREAK in deep snow", "a1111")
    assert "number" not in _codes("a fox [in:at:100] snow", "a1111")


def test_branches_and_sides_are_read_apart() -> None:
    assert "repeated-word" not in _codes("a [fox:fox runs:0.5] here", "a1111")
    assert "repeated-word" not in _codes("a fox AND fox in snow", "a1111")
    assert "repeated-word" in _codes("a dog AND fox fox in snow", "a1111")


def test_a_long_prompt_is_a_hint_about_chunks() -> None:
    words = ("fox tree snow sky river stone cloud leaf house road " * 9).strip()
    prompt = f"(a:1.2) {words}"
    (finding,) = [one for one in _found(prompt, "a1111") if one.code == "too-long"]
    assert (finding.severity, "91 tokens need 2 chunks of 75" in finding.message) == ("hint", True)
    kept = prompt.index(words) + len(" ".join(words.split()[:74]))  # after the "a"
    assert finding.span == (kept + 1, len(prompt))


def test_a_weight_of_one_that_undoes_the_one_around_it_is_not_idle() -> None:
    assert _codes("(a (plain:1.0) red fox:1.3)", "comfyui") == ["replaced-weight"]
    assert "idle-weight" in _codes("(a (plain:1.0) red fox:1.3)", "a1111")


def test_a_prompt_without_words_is_empty() -> None:
    for prompt, dialect in (
        ("", "a1111"),
        ("()", "comfyui"),
        ("()+", "compel"),
        ("[:0.5]", "a1111"),
    ):
        codes = _codes(prompt, dialect)  # type: ignore[arg-type]
        assert codes.count("empty") == 1


def test_the_padding_character_is_found_only_where_it_is_one() -> None:
    (finding,) = _found("a red fox!", "a1111", TOKENIZER)
    assert (finding.code, finding.span) == ("padding-character", (9, 10))
    assert _found("a red fox!", "a1111", END_PADDED) == []


def test_what_is_no_text_is_refused_as_by_the_tokenizer() -> None:
    with pytest.raises(TextError, match="character 3 is a lone surrogate"):
        _found("(a \ud800)", "a1111")
    with pytest.raises(ConfigError, match="midjourney"):
        _found("a fox", "midjourney")  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", tuple(DIALECTS))
@given(prompt=st.text(alphabet='ab ()[]",.+-=\\:|1!BREAKND<>\n', max_size=40))
@settings(max_examples=40, deadline=None)
def test_any_prompt_is_linted_and_every_place_lies_inside(dialect: Dialect, prompt: str) -> None:
    found = _found(prompt, dialect)
    for finding in found:
        start, end = finding.span
        assert 0 <= start <= end <= len(prompt)
        assert finding.message
    assert found == sorted(found, key=lambda one: one.span)


@pytest.mark.parametrize("dialect", tuple(DIALECTS))
def test_b12_a_text_that_cannot_be_cleaned_is_a_finding(dialect: Dialect) -> None:
    found = _found("a cat &#" + "9" * 5000 + ";", dialect)
    assert [(one.code, one.span) for one in found if one.severity == "error"] == [
        ("unreadable", (6, 7))
    ]


def test_b11_many_groups_are_linted_in_time() -> None:
    began = time.process_time()
    assert len(_found("(a:1)" * 3000, "comfyui")) >= 3000
    assert time.process_time() - began < 5  # quadratic work took minutes
