"""Syntax of other tools that a dialect reads as words: patterns and messages."""

import re
from dataclasses import dataclass

from ecliptic.prompts.dialects import Dialect


@dataclass(frozen=True)
class Foreign:
    """A pattern that is syntax in another tool."""

    code: str
    dialects: tuple[Dialect, ...]  # that read it as text
    pattern: "re.Pattern[str]"  # bounded to stay fast
    message: str  # {} is replaced by the match


FOREIGN: tuple[Foreign, ...] = (
    Foreign(
        "lora-tag",
        ("plain", "comfyui", "compel"),
        re.compile(r"<(?:lora|lyco|hypernet):[^<>]{1,200}>"),
        "{} is not read here and would be encoded as words; merge the file with add_lora, or read "
        'the prompt with dialect="a1111" and loras=....',
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
        "{} is syntax in A1111's dialect and text in this one; convert the prompt.",
    ),
    Foreign(
        "other-dialect",
        ("compel",),
        re.compile(r"(?<!\\)\([^():]{1,200}:\s*[0-9.]{1,20}\s*\)"),
        "{} is not a weight in compel's dialect: its number is read as words; write (word)1.2.",
    ),
)
