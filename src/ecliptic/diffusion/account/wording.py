"""The words that the text and the page of a report share."""

from collections.abc import Sequence

from ecliptic.diffusion.account.report import ConditioningReport, PromptReport, Steps
from ecliptic.diffusion.tokens.ledger import EncoderReading, format_count


def name_options(report: ConditioningReport) -> str:
    """The options of a call that are set, such as "dialect a1111, long truncate"."""
    given = report.options.items()
    return ", ".join(f"{name} {value}" for name, value in given if value is not None)


def name_prompt(report: ConditioningReport, prompt: PromptReport) -> str:
    """Which prompt it is: its side, its place under AND with the weight, and its steps."""
    parts: list[str] = [prompt.side]
    weights = prompt.weight if isinstance(prompt.weight, tuple) else (prompt.weight,)
    if prompt.side == "prompt" and (report.alternatives > 1 or set(weights) != {1.0}):
        shown = ", ".join(f"{weight:g}" for weight in weights)
        parts.append(f"alternative {prompt.alternative + 1}, weight {shown}")
    if prompt.second:
        parts.append("second pass")
    if prompt.steps:
        parts.append(name_steps(prompt.steps))
    return ", ".join(parts)


def name_steps(steps: tuple[Steps, ...]) -> str:
    """Steps in words, such as "steps 1 to 5, 8"."""
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in steps]
    single = len(steps) == 1 and steps[0][0] == steps[0][1]
    return f"{'step' if single else 'steps'} {', '.join(parts)}"


def name_reading(report: ConditioningReport, prompt: PromptReport, reading: EncoderReading) -> str:
    """Which text it is, such as "Prompt 2, steps 1 to 5"."""
    _, *others = name_prompt(report, prompt).split(", ", 1)
    name = ", ".join([reading.title, *others])
    return name[0].upper() + name[1:]


def name_encoders(readings: Sequence[EncoderReading]) -> str:
    """The encoders and what is read of them, such as "clip_l (sequence), clip_g (pooled)"."""
    return ", ".join(f"{one.encoder} ({one.output})" for one in readings)


def name_budget(reading: EncoderReading) -> str:
    """The tokens of each chunk, such as "91 of 150 tokens: 75 of 75, 16 of 75; 2 dropped"."""
    if not reading.chunks:
        return "tokens not counted"
    shown = f"{reading.used:,} of {format_count(reading.available)}"
    if len(reading.chunks) > 1:
        shown += f" in {len(reading.chunks)} chunks: "
        shown += ", ".join(f"{used} of {available}" for used, available in reading.chunks)
    dropped = len(reading.dropped)
    return shown + f"; {format_count(dropped)} dropped" * bool(dropped)
