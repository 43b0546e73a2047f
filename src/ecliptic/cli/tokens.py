"""`ecliptic tokens`: the tokens of a text."""

from typing import TYPE_CHECKING, Annotated

import typer

from ecliptic.cli.flags import Json, TokenizerFlags, expands
from ecliptic.cli.output import count, print_json, print_table, say

if TYPE_CHECKING:
    from ecliptic.inputs import TokenSpan


@expands
def tokens(
    *,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The text to tokenize.")],
    options: TokenizerFlags,
    json: Json = False,
) -> None:
    """Show the tokens of TEXT and the characters of each."""
    from ecliptic.inputs import ledger

    tokenizer = options.tokenizer()
    found = ledger(text, tokenizer)
    if json:
        print_json([token.to_json() for token in found])
        return
    rows = [
        (place, token.id, token.piece, repr(text[slice(*token.span)]), _remark(token))
        for place, token in enumerate(found)
    ]
    print_table(("place ", "id ", "piece", "characters", ""), rows, wrap_last=True)
    dropped = sum(not token.kept for token in found)
    say(
        f"{count(len(found), 'token')}, {tokenizer.spec.context} fit"
        + f", {dropped} dropped" * (dropped > 0)
    )


def _remark(token: "TokenSpan") -> str:
    if not token.kept:
        return "dropped: the context is full"
    return {"start": "start", "end": "pooled", "text": ""}[token.kind]
