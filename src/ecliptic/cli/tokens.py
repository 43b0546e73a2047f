"""`ecliptic tokens`: what a text is to the tokenizer."""

from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.flags import Json, TokenizerFlags, expands
from ecliptic.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ecliptic.inputs import TokenSpan


@expands
def tokens(
    *,
    text: Annotated[str, typer.Argument(help="The text to take apart.")],
    options: TokenizerFlags,
    json: Json = False,
) -> None:
    """Show the tokens of TEXT and the characters they stand for."""
    from ecliptic.inputs import ledger

    tokenizer = options.tokenizer()
    found = ledger(text, tokenizer)
    if json:
        print_json([token.to_json() for token in found])
        return
    print_table(("place ", "id ", "piece", "characters", ""), _rows(found, text))
    dropped = sum(not token.kept for token in found)
    say(
        f"{len(found)} tokens, {tokenizer.spec.context} fit"
        + f", {dropped} dropped" * (dropped > 0)
    )


def _rows(found: "list[TokenSpan]", text: str) -> list[tuple[object, ...]]:
    return [
        (place, token.id, token.piece, repr(text[slice(*token.span)]), _remark(token))
        for place, token in enumerate(found)
    ]


def _remark(token: "TokenSpan") -> str:
    if not token.kept:
        return "dropped: the context is full"
    return {"start": "start", "end": "pooled", "text": ""}[token.kind]
