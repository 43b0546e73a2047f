"""What a linter of prompts reports; shared by every kind of prompt."""

from dataclasses import asdict, dataclass
from typing import Literal

from ecliptic.inputs.cleaning import Span

Severity = Literal["error", "warning", "hint"]  # loses words, likely a mistake, could be better


@dataclass(frozen=True)
class Finding:
    """One remark about a text."""

    code: str  # stable, for filters: "too-long"
    message: str  # what is wrong, why, and what to write instead
    span: Span  # characters of the text it is about
    severity: Severity

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values."""
        return asdict(self) | {"span": list(self.span)}
