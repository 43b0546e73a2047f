"""The history of a run: lines for people and programs, and the examples that could not be read."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ecliptic.errors import StorageError
from ecliptic.storage import read_text, start_log
from ecliptic.train.data import BadExample

Report = Callable[[dict[str, Any]], None]
METRICS, REJECTS = "metrics.jsonl", "rejects.jsonl"


class Recorder:
    """Writes lines as they come, so that a run that is killed keeps them.

    Args:
        folder: of the run.
        report: gets each line of the history.
        step: lines of later steps are dropped: the run goes on from this one.
    """

    def __init__(self, folder: Path, report: Report, step: int) -> None:
        self.report = report
        self.lines: list[dict[str, Any]] = []  # of this session
        kept, rejected = (_lines_until(folder / name, step) for name in (METRICS, REJECTS))
        self.rejects = len(rejected)  # of the whole run
        self.past = [json.loads(text) for text in kept]  # the written lines of the whole run
        self._metrics = start_log(folder / METRICS, "".join(kept))
        self._rejects = start_log(folder / REJECTS, "".join(rejected))

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._metrics.close()
        self._rejects.close()

    def record(self, line: dict[str, Any]) -> None:
        """Keep, write and report a line; it has a "step".

        Raises:
            StorageError: it cannot be written.
        """
        line = _clean(line)
        self.past.append(line)
        _append(self._metrics, line)
        self.tell(line)

    def tell(self, line: dict[str, Any]) -> None:
        """Report a line that is no part of the history of the whole run."""
        self.lines.append(line)
        self.report(line)

    def reject(self, step: int, examples: Iterable[BadExample]) -> None:
        """Write examples that could not be read for `step`."""
        for example in examples:
            self.rejects += 1
            _append(self._rejects, {"step": step} | asdict(example))


def _clean(value: Any) -> Any:
    """None for each number that is not finite, which JSON lacks."""
    if isinstance(value, dict):
        return {name: _clean(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _append(file: IO[str], line: dict[str, Any]) -> None:
    try:
        file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise StorageError(
            f"{file.name} cannot be written: {error.strerror}; free some space."
        ) from error


class Silent(Recorder):
    """The recorder of the processes that write nothing: all but the first one."""

    def __init__(self) -> None:
        self.lines, self.past, self.rejects = [], [], 0

    def __exit__(self, *_: object) -> None:
        pass

    def record(self, line: dict[str, Any]) -> None:
        """Do nothing."""

    def tell(self, line: dict[str, Any]) -> None:
        """Do nothing."""

    def reject(self, step: int, examples: Iterable[BadExample]) -> None:
        """Do nothing."""


def _lines_until(path: Path, step: int) -> list[str]:
    """The whole lines of a file that tell of `step` or an earlier one."""
    if step == 0 or not path.exists():
        return []
    found = []
    for text in read_text(path, StorageError).splitlines():
        try:
            if json.loads(text)["step"] <= step:
                found.append(text + "\n")
        except (ValueError, KeyError, TypeError):  # the end of a run that was killed
            continue
    return found
