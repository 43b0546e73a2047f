"""The history of a run: lines for people and programs, and the examples that could not be read."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

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
        self.rejects = 0  # of the whole run
        kept, rejected = (_lines_until(folder / name, step) for name in (METRICS, REJECTS))
        self.rejects = len(rejected)
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
        """Keep, write and report a line; it has a "step"."""
        self.lines.append(line)
        self._metrics.write(json.dumps(line) + "\n")
        self.report(line)

    def reject(self, step: int, examples: Iterable[BadExample]) -> None:
        """Write examples that could not be read for `step`."""
        for example in examples:
            self.rejects += 1
            self._rejects.write(json.dumps({"step": step} | asdict(example)) + "\n")


class Silent(Recorder):
    """The recorder of the processes that write nothing: all but the first one."""

    def __init__(self, folder: Path, report: Report, step: int) -> None:
        del folder, report, step
        self.lines, self.rejects = [], 0

    def __exit__(self, *_: object) -> None:
        pass

    def record(self, line: dict[str, Any]) -> None:
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
