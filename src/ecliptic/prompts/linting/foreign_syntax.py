"""Syntax of other tools that a dialect reads as words: what to look for, and what to say."""

import re
from dataclasses import dataclass

from ecliptic.prompts.dialects import Dialect


@dataclass(frozen=True)
class Foreign:
    """A pattern that means something elsewhere."""

    code: str
    dialects: tuple[Dialect, ...]  # that read it as text
    pattern: "re.Pattern[str]"  # bounded, so that no text is slow
    message: str  # {} is what was found


FOREIGN: tuple[Foreign, ...] = (
    Foreign(
        "lora-tag",
        ("a1111", "comfyui", "compel"),
        re.compile(r"<(?:lora|lyco|hypernet):[^<>]{1,200}>"),
        "{} is not read here and would be encoded as words; load the file beside the prompt.",
    ),
    Foreign(
        "other-dialect",
        ("a1111", "comfyui"),
        re.compile(
            r"(?<=[^\W_])(?:\+{1,9}|-{2,9})(?![\w+-])|(?<=[)\"])(?:\+{1,9}|-{2,9})(?![\w+-])"
        ),
        "{} is a weight in compel's dialect and text in this one; write (word:1.1).",
    ),
    Foreign(
        "other-dialect",
        ("a1111", "comfyui"),
        re.compile(r"\.(?:blend|and|swap|attend)\(|\b(?:with|use)Lora\("),
        "{} is a call in compel's dialect and text in this one; convert the prompt.",
    ),
    Foreign(
        "other-dialect",
        ("comfyui", "compel"),
        re.compile(r"(?<!\\)\[[^\[\]]{1,200}\]|\b(?:BREAK|AND)\b"),
        "{} means something in A1111's dialect and is text in this one; convert the prompt.",
    ),
    Foreign(
        "other-dialect",
        ("compel",),
        re.compile(r"(?<!\\)\([^():]{1,200}:\s*[0-9.]{1,20}\s*\)"),
        "{} is no weight in compel's dialect, and its number is read as words; write (word)1.2.",
    ),
)
