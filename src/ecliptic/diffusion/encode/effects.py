"""Lists what a call was given but cannot use: the only place that says "no effect here".

A rule is a function of a `GivenCall` that yields one sentence for each thing without effect; a new
rule is a new row of `_RULES`. What contradicts itself is refused where it is checked; here is only
what the family, the layout or the dialect does not read.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ecliptic.diffusion.conditioning import ConditioningWarning
from ecliptic.diffusion.encode.call import TextCall
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.lines import lines_of, text_of
from ecliptic.diffusion.families import Family
from ecliptic.diffusion.micro_conditioning import Sizes
from ecliptic.diffusion.options import Emphasis, Options
from ecliptic.diffusion.tokens.chunks import starts_chunks
from ecliptic.errors import warn
from ecliptic.prompts import Break, Segment, parse

_QUOTED = 60  # characters of a prompt in a message


@dataclass(frozen=True)
class GivenCall:
    """All that one call of a conditioner was given."""

    family: Family
    encoders: tuple[TextEncoder, ...]
    how: Mapping[str, Any] = field(default_factory=dict)  # options as they were given
    arguments: Mapping[str, Any] = field(default_factory=dict)  # of the call; None if not given
    text: TextCall | None = None  # its prompts, parsed; None without a prompt
    later: TextCall | None = None  # those of A1111's second pass
    has_t5: bool = False  # a T5 is loaded

    @property
    def options(self) -> Options:
        """The options, checked."""
        return Options.of(self.how)

    @property
    def stated(self) -> list[str]:
        """The names of the options that have another value than the default."""
        rows = ((one.name, one.default) for one in fields(Options))
        return [name for name, default in rows if self.how.get(name, default) != default]

    def has(self, name: str) -> bool:
        """Whether an argument was given."""
        return self.arguments.get(name) is not None

    @property
    def segments(self) -> Iterator[Segment | Break]:
        """The parts of every line that is read."""
        for call in filter(None, (self.text, self.later)):
            for side in call.sides:
                for reading in side.timeline.readings():
                    for line in lines_of(reading):
                        yield from line.parts

    @property
    def only_pooled(self) -> bool:
        """Whether the family reads no sequence of CLIP, as FLUX."""
        return bool(self.encoders) and all(one.only_pooled for one in self.encoders)


def warn_without_effect(given: GivenCall) -> None:
    """Warn once, at the user's line, of everything in a call that has no effect."""
    found = [sentence for rule in _RULES for sentence in rule(given)]
    if found:
        warn(" ".join(dict.fromkeys(found)), ConditioningWarning, stacklevel=None)


def _without_prompt(given: GivenCall) -> Iterator[str]:
    if given.text is not None:
        return
    texts = ("negative", "prompt_2", "negative_2", "t5", "negative_t5", "sizes", "hires")
    names = [name for name in texts if given.has(name)]
    names += [name for name in given.stated if name != "grad"]
    if names:
        yield (
            f"{', '.join(names)} had no effect, because no prompt was given and images are read "
            "without it; leave it out, or pass a prompt."
        )


def _without_images(given: GivenCall) -> Iterator[str]:
    if given.arguments.get("patches") and not given.has("images"):
        yield "patches had no effect without images; pass images too, or leave it out."


def _skipped_layers(given: GivenCall) -> Iterator[str]:
    behaviour, family = given.options.behaviour, given.family
    if not given.options.clip_skip or given.text is None:
        return
    if given.only_pooled:
        yield f"clip_skip had no effect: {_reads_pooled(given)} of the last layer."
    elif family.name in behaviour.ignores_skip:
        yield (
            f"{behaviour.name} ignores clip skip on {family.title}, so clip_skip has no effect "
            'under this compat; pass compat="diffusers" to apply it.'
        )


def _weights(given: GivenCall) -> Iterator[str]:
    if given.options.weighting.name == "ignore":
        return  # no effect is what was asked for
    stated = "emphasis" in given.stated
    weighted = any(isinstance(part, Segment) and part.weight != 1 for part in given.segments)
    if given.only_pooled and (stated or weighted):
        what = "emphasis and the weights of words" if stated else "the weights of words"
        yield f"{what} had no effect: {_reads_pooled(given)}, which no weight changes."
    elif stated and given.text is not None and given.options.dialect == "plain":
        if given.options.weighting.balance != Emphasis.balance:
            return
        yield (
            'emphasis had no effect, because the dialect "plain" has no weights; pass the dialect '
            'that the prompt is written in, such as dialect="a1111".'
        )


def _balance(given: GivenCall) -> Iterator[str]:
    sequences = [one for one in given.encoders if not one.only_pooled]
    if given.options.weighting.balance != Emphasis.balance and len(sequences) != 2:
        yield (
            f"balance of emphasis had no effect: {given.family.title} does not join the sequences "
            "of two CLIP encoders."
        )


def _ends(given: GivenCall) -> Iterator[str]:
    if given.text is None or given.options.chunk_ends == Options.chunk_ends:
        return
    if given.only_pooled:
        yield f"chunk_ends had no effect: {_reads_pooled(given)} of the first chunk."
    elif given.options.layout == "truncate":
        yield 'chunk_ends had no effect: the layout "truncate" has one chunk; pass long="chunk".'


def _breaks(given: GivenCall) -> Iterator[str]:
    layout = given.options.layout
    if starts_chunks(layout) and not given.only_pooled:
        return
    if any(isinstance(part, Break) for part in given.segments):
        why = (
            f"{_reads_pooled(given)} of the first chunk"
            if given.only_pooled
            else f'the layout "{layout}" has one chunk; pass long="chunk" to start another'
        )
        yield f"BREAK starts no chunk here: {why}."


def _left_out(given: GivenCall) -> Iterator[str]:
    """Yield the parts of prompts that no encoder reads, such as `.swap` and schedules' ends."""
    first, later = (dict.fromkeys(_texts_of(call)) for call in (given.text, given.later))
    steps = given.options.steps
    second = None if given.later is None else given.later.options.steps
    for text, negative in first | later:
        prompt = parse(text, given.options.dialect)
        if (text, negative) in first:
            also = second if (text, negative) in later else None
            unread = prompt.find_unread(steps, negative=negative, second_steps=also)
        else:
            unread = prompt.find_unread(second, negative=negative, base_steps=steps)
        for note in (*prompt.notes, *unread):
            quoted = text[:_QUOTED] + "..." * (len(text) > _QUOTED)
            yield f"in {quoted!r}, {note}"


def _texts_of(call: TextCall | None) -> Iterator[tuple[str, bool]]:
    """Yield every prompt of a pass, and whether it is a negative one."""
    for side in [] if call is None else call.sides:
        for text in dict.fromkeys(text for texts in side.texts for text in texts):
            yield text, call is not None and side is call.negative


def _second_negative(given: GivenCall) -> Iterator[str]:
    text = given.text
    if text is None or text.request.stated or text.negative is not None:
        return
    for name in ("negative_2", "negative_t5"):
        if given.has(name):
            what = "is all zeros" if text.zeros else "is left out"
            yield (
                f"{name} had no effect: without negative, that side of {given.family.title} "
                f'{what}, as in diffusers; pass negative="" or another text with it.'
            )


def _t5_weights(given: GivenCall) -> Iterator[str]:
    rule = given.family.language
    if rule is None or not given.has_t5 or given.has("t5") or given.only_pooled:
        return
    if any(isinstance(part, Segment) and part.weight != 1 for part in given.segments):
        yield "the weights of words had no effect on T5, which reads the words alone."


def _t5_syntax(given: GivenCall) -> Iterator[str]:
    """Yield the wordings that only T5 reads and that have syntax, which it does not."""
    if given.text is None or not given.has_t5 or given.options.dialect == "plain":
        return
    request, steps = given.text.request, given.options.steps
    for negative, side in enumerate(("prompt", "negative")):
        if not any(name.startswith(side) for name in request.own_wordings):
            continue
        for text in dict.fromkeys(request.language[negative]):
            parts = parse(text, given.options.dialect).readings(steps, negative=bool(negative))
            words = " ".join(map(text_of, lines_of(parts[0].schedule[0][1])))
            changes = len(parts) > 1 or len(parts[0].schedule) > 1  # T5 itself says so
            if not changes and _letters(words) != _letters(text):
                quoted = text[:_QUOTED] + "..." * (len(text) > _QUOTED)
                yield (
                    f"T5 reads {quoted!r} as {words.strip()[:_QUOTED]!r}: weights, networks and "
                    "other syntax have no effect on it."
                )


def _letters(text: str) -> str:
    return "".join(text.replace("\\", "").split())


def _lone_pooled(given: GivenCall) -> Iterator[str]:
    text = given.text
    if text is None or given.family.negative != "if given" or text.negative is None:
        return
    if given.has("t5") and not given.has("negative_t5") and not given.has_t5:
        yield (
            f"negative has no effect on {given.family.title} without negative_t5: its pipeline "
            "ignores a negative that has only a pooled vector; pass T5's tensor of both sides."
        )


def _sizes(given: GivenCall) -> Iterator[str]:
    sizes, family = given.arguments.get("sizes"), given.family
    if sizes is None or given.text is None:
        return
    if family.sizes is None:
        yield f"sizes had no effect, because {family.title} reads no sizes; leave it out."
        return
    idle = {"sdxl": ("aesthetic", "negative_aesthetic"), "refiner": ("target",)}[family.sizes]
    plain = Sizes()
    names = [name for name in idle if getattr(sizes, name) != getattr(plain, name)]
    if names:
        yield f"{' and '.join(names)} of sizes had no effect: {family.title} does not read it."


def _reads_pooled(given: GivenCall) -> str:
    parts = " and ".join(one.rule.part for one in given.encoders)
    return f"{given.family.title} reads only the pooled vector of {parts}"


_RULES: tuple[Callable[[GivenCall], Iterator[str]], ...] = (
    _without_prompt,
    _without_images,
    _skipped_layers,
    _weights,
    _balance,
    _ends,
    _breaks,
    _left_out,
    _second_negative,
    _t5_weights,
    _t5_syntax,
    _lone_pooled,
    _sizes,
)
