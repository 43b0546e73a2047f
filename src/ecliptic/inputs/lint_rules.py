"""Finds words in a caption that CLIP drops or reads badly.

Each rule is a small function in `RULES` that takes a `TextReading` and yields findings; a new rule
is a new function in the table. The advice follows Radford et al. 2021 (arXiv:2103.00020, section
3.1.4) and the tokenizer's own pattern.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import regex

from ecliptic.errors import TextError
from ecliptic.inputs.cleaning import Span, is_mojibake, repaired_pieces
from ecliptic.inputs.findings import Finding
from ecliptic.inputs.token_spans import TokenSpan, ledger
from ecliptic.inputs.tokenizer import END_SPELLINGS, START_SPELLINGS, Tokenizer, check_text, quote

MANY_PIECES = 4  # tokens of one word
MANY_USES = 3  # of one content word in a text
MIN_FOREIGN = 2  # tokens
LONG_NUMBER = 3  # digits

WORD = regex.compile(r"\p{L}[\p{L}\p{M}'’]*")
REPEATED = regex.compile(r"\b(\w+)(?:[\s,;]+\1\b)+", regex.IGNORECASE)
NUMBER = regex.compile(r"\p{N}+(?:[.,]\p{N}+)*")
FOREIGN = regex.compile(r"(?:(?!\p{Latin})\p{L}\p{M}*)+")  # letters of other scripts
SPECIAL = regex.compile(
    "|".join(map(regex.escape, START_SPELLINGS + END_SPELLINGS)), regex.IGNORECASE
)
SYNTAX = regex.compile(  # of diffusion front ends: A1111, ComfyUI, compel, Midjourney
    r"""\([^():]{1,200}:\s*[0-9.]+\)  # (word:1.2); bounded to stay fast
    | \(\([^()]{1,200}\)\) | \[\[[^][]{1,200}\]\]  # ((word)), [[word]]
    | <(?:lora|lyco|hypernet|embedding):[^<>]{1,200}>
    | (?<=[\p{L}\p{N})"])(?:\+{1,4}|-{2,4})(?![\p{L}\p{N}+-])  # word++
    | \B--\w{1,40}(?:\s+[0-9][0-9:.]*)?  # --ar 16:9
    | \bBREAK\b""",
    regex.VERBOSE,
)
_MEDIUM = r"(?:image|picture|photo|photograph|pic|snapshot|drawing|illustration|painting|icon)"
NESTED_MEDIUM = regex.compile(
    rf"\b{_MEDIUM}\s+of\s+(?:an?\s+|the\s+)?{_MEDIUM}\b(?:\s+of\b)?", regex.IGNORECASE
)
GENERIC = regex.compile(
    "animal|art|background|building|cool|design|drawing|food|good|graphic|icon|image|item|logo"
    "|nice|object|people|person|photo|pic|picture|place|plant|scene|something|stuff|symbol|thing"
)
STOP = regex.compile(
    "an?|and|are|as|at|by|for|from|has|have|in|into|is|its?|of|on|onto|or|over|that|the|their"
    "|this|to|under|very|was|were|with"
)


@dataclass(frozen=True)
class TextReading:
    """A text with its tokens and words, each computed when a rule first uses it."""

    text: str
    tokenizer: Tokenizer

    @cached_property
    def tokens(self) -> list[TokenSpan]:
        """Text tokens, without start and end."""
        return ledger(self.text, self.tokenizer)[1:-1]

    @cached_property
    def words(self) -> list[tuple[str, Span]]:
        """(lower-case word, span) in order."""
        return [(word.group().lower(), word.span()) for word in WORD.finditer(self.text)]

    def tokens_in(self, span: Span) -> list[TokenSpan]:
        """Tokens that start inside `span`."""
        first, after = (
            bisect_left(self.tokens, edge, key=lambda one: one.span[0]) for edge in span
        )
        return self.tokens[first:after]


TextRule = Callable[[TextReading], Iterator[Finding]]


def lint(text: str, tokenizer: Tokenizer) -> list[Finding]:
    """Findings in `text`, in the order of its characters; none where CLIP reads it well.

    Raises:
        TextError: `text` is not a `str` of whole characters.
    """
    check_text(text)
    reading = TextReading(text, tokenizer)
    try:
        tokens = reading.tokens
    except TextError as error:
        return [unreadable(text, error)]
    if not tokens:
        message = "nothing is left after cleaning, so the vector has no meaning; write a caption."
        return [Finding("empty", message, (0, len(text)), "error")]
    found = [finding for rule in RULES for finding in rule(reading)]
    return sorted(found, key=lambda finding: finding.span)


def unreadable(text: str, error: TextError) -> Finding:
    """The finding for a text that the tokenizer or its dialect refuses."""
    span = (0, len(text))
    if error.place is not None:
        start = min(error.place, max(len(text) - 1, 0))  # the place can be the end
        span = (start, start + 1)
    return Finding("unreadable", str(error), span, "error")


def _find_dropped(reading: TextReading) -> Iterator[Finding]:
    dropped = [token for token in reading.tokens if not token.kept]
    if not dropped:
        return
    span = (dropped[0].span[0], dropped[-1].span[1])
    yield Finding(
        "too-long",
        f"{len(reading.tokens)} tokens do not fit the {reading.tokenizer.spec.context - 2} of the "
        f"context, so {quote(reading.text[slice(*span)])} is dropped; put important words first, "
        "or shorten the text.",
        span,
        "error",
    )


def _find_repeated(reading: TextReading) -> Iterator[Finding]:
    for run in REPEATED.finditer(reading.text):
        times = len(regex.findall(r"\w+", run.group()))
        message = f"{quote(run[1])} occurs {times} times in a row; CLIP gains nothing from it."
        yield Finding("repeated-word", message, run.span(), "warning")


def _find_overused(reading: TextReading) -> Iterator[Finding]:
    uses: dict[str, list[Span]] = {}
    for word, span in reading.words:
        uses.setdefault(word, []).append(span)
    for word, spans in uses.items():
        if len(spans) >= MANY_USES and not STOP.fullmatch(word):
            message = f"{quote(word)} is used {len(spans)} times; use it once and be more precise."
            yield Finding("overused-word", message, spans[MANY_USES - 1], "hint")


def _find_split_words(reading: TextReading) -> Iterator[Finding]:
    for word, span in reading.words:
        tokens = reading.tokens_in(span)
        if len(tokens) >= MANY_PIECES and not FOREIGN.search(word):
            pieces = " ".join(token.piece for token in tokens[:10])
            message = (
                f"{quote(word)} is not in the vocabulary and is read as {len(tokens)} pieces "
                f"({pieces}); check the spelling, or use a more common word."
            )
            yield Finding("split-word", message, span, "hint")


def _find_specials(reading: TextReading) -> Iterator[Finding]:
    for match in SPECIAL.finditer(reading.text):
        message = (
            f"{quote(match.group())} is a token that the tokenizer adds itself; "
            "in the text it is read as ordinary characters, so remove it."
        )
        yield Finding("stray-special", message, match.span(), "warning")


def _find_weight_syntax(reading: TextReading) -> Iterator[Finding]:
    for match in SYNTAX.finditer(reading.text):
        message = (
            f"{quote(match.group())} looks like the syntax of an image generator; "
            "CLIP itself reads brackets, signs and numbers as text."
        )
        yield Finding("weight-syntax", message, match.span(), "warning")


def _find_vague(reading: TextReading) -> Iterator[Finding]:
    content = [(word, span) for word, span in reading.words if not STOP.fullmatch(word)]
    if len(content) == 1 and GENERIC.fullmatch(content[0][0]):
        word, span = content[0]
        message = (
            f"{quote(word)} alone fits almost every image; name the object, "
            'as in "a photo of a red bicycle".'
        )
        yield Finding("vague", message, span, "hint")


def _find_nested_medium(reading: TextReading) -> Iterator[Finding]:
    for match in NESTED_MEDIUM.finditer(reading.text):
        message = f"{quote(match.group())} names the medium twice; once is enough."
        yield Finding("redundant", message, match.span(), "hint")


def _find_changed(reading: TextReading) -> Iterator[Finding]:
    for original, repaired, offset in repaired_pieces(reading.text):
        if original == repaired:
            continue
        span = (offset, offset + len(original))
        change = f"{quote(original)} is read as {quote(repaired)}"
        if "&" in original:
            yield Finding("entity", f"{change}; write the character itself.", span, "hint")
        elif is_mojibake(original):
            message = f"{change}, since it looks decoded with the wrong encoding; fix the source."
            yield Finding("mojibake", message, span, "warning")
        elif not repaired:
            message = f"the control characters {quote(original)} are dropped; remove them."
            yield Finding("control-characters", message, span, "hint")


def _find_foreign(reading: TextReading) -> Iterator[Finding]:
    for match in FOREIGN.finditer(reading.text):
        letters, tokens = len(match.group()), len(reading.tokens_in(match.span()))
        if tokens >= MIN_FOREIGN and 2 * tokens > letters:
            message = (
                f"{quote(match.group())} ({letters} characters) is split into {tokens} tokens; "
                "models trained on English captions rarely see this script, so translate it."
            )
            yield Finding("foreign-script", message, match.span(), "warning")


def _find_numbers(reading: TextReading) -> Iterator[Finding]:
    for match in NUMBER.finditer(reading.text):
        digits = sum(char.isnumeric() for char in match.group())
        if digits >= LONG_NUMBER:
            message = (
                f"{quote(match.group())} is read digit by digit ({digits} tokens) "
                "and poorly understood; remove it, or use a word."
            )
            yield Finding("number", message, match.span(), "hint")


RULES: tuple[TextRule, ...] = (
    _find_dropped,
    _find_repeated,
    _find_overused,
    _find_split_words,
    _find_specials,
    _find_weight_syntax,
    _find_vague,
    _find_nested_medium,
    _find_changed,
    _find_foreign,
    _find_numbers,
)
