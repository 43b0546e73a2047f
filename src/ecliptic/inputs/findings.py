"""Findings of a linter; shared by captions and prompts of every dialect."""

from dataclasses import asdict, dataclass
from typing import Literal

from ecliptic.inputs.cleaning import Span

Severity = Literal["error", "warning", "hint"]  # words are lost, likely a mistake, could be better


@dataclass(frozen=True)
class Finding:
    """One problem in a text."""

    code: str  # stable, for filters: "too-long"
    message: str  # what is wrong, why, and how to fix it
    span: Span  # characters of the text
    severity: Severity

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self) | {"span": list(self.span)}
