"""`ecliptic lint`: advice about prompts, without loading a model."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ecliptic.cli.exits import FAILED, leave
from ecliptic.cli.flags import Json, TokenizerFlags, expands
from ecliptic.cli.output import count, print_json, print_text, say
from ecliptic.cli.wording import name_flags

if TYPE_CHECKING:
    from ecliptic.inputs import Finding


@expands
def lint(
    *,
    text: Annotated[
        str,
        typer.Argument(metavar="TEXT", help="A text, a file with a text per line, or - for stdin."),
    ],
    options: TokenizerFlags,
    dialect: Annotated[
        Literal["plain", "a1111", "comfyui", "compel"],
        typer.Option(help="Prompt syntax of the text."),
    ] = "plain",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on any finding.")] = False,
    json: Json = False,
) -> None:
    """List the parts of a text that CLIP ignores or reads badly."""
    from ecliptic.cli.texts import text_or_file
    from ecliptic.prompts import lint_prompt

    tokenizer = options.tokenizer()
    found = [(line, one, lint_prompt(one, tokenizer, dialect)) for line, one in text_or_file(text)]
    if json:
        print_json(
            [
                {"line": line, "text": one, "findings": [finding.to_json() for finding in findings]}
                for line, one, findings in found
            ]
        )
    else:
        for line, one, findings in found:
            _print(line, one, findings)
    total = sum(len(findings) for _, _, findings in found)
    say(f"{count(total, 'finding')} in {count(len(found), 'text')}")
    leave(FAILED, when=strict and total > 0)


def _print(line: int, text: str, findings: "list[Finding]") -> None:
    for finding in findings:
        start, end = finding.span
        place = f"{line}:{start + 1}"
        print_text(f"{place}: {finding.severity} [{finding.code}] {name_flags(finding.message)}")
        print_text(f"    {text[start:end]!r}")
