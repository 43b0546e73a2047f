"""Runs a page of the documentation as it is written: its Python and its commands, in one folder."""

import re
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecliptic.report.showcase.bundled import FOLDER
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass
class PageRun:
    """What a page made."""

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})  # of its Python
    printed: list[str] = field(default_factory=list)  # by its commands, on stdout


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(python or sh, code) of each block of a page of docs/."""
    found: list[tuple[str, str]] = BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    return found


def run_page(page: str, run: Run, takes: Callable[[str], bool] = lambda code: True) -> PageRun:
    """Run the commands of a page in the current folder, and its Python that `takes` accepts."""
    shutil.copytree(FOLDER, Path.cwd() / FOLDER.relative_to(ROOT))
    done = PageRun()
    for kind, code in blocks_of(page):
        if kind == "python":
            if takes(code):
                exec(compile(code, page, "exec"), done.names)
            continue
        for line in code.splitlines():
            program, *words = shlex.split(line, comments=True)
            found = run(*words)
            assert (program, found.exit_code) == ("ecliptic", 0), (line, found.stderr)
            done.printed.append(found.stdout)
    return done
