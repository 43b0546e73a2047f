"""The page on aesthetics runs as it is written: its Python, then its commands, in one folder."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from ecliptic.report.showcase.bundled import FOLDER
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_every_block_of_the_page_runs(run: Run) -> None:
    shutil.copytree(FOLDER, Path.cwd() / FOLDER.relative_to(ROOT))
    names: dict[str, Any] = {"__name__": "__main__"}
    page = (ROOT / "docs" / "aesthetics.md").read_text(encoding="utf-8")
    commands = 0
    for kind, code in BLOCK.findall(page):
        if kind == "python":
            exec(compile(code, "aesthetics.md", "exec"), names)
            continue
        for line in code.splitlines():
            program, *words = shlex.split(line, comments=True)
            found = run(*words)
            assert (program, found.exit_code) == ("ecliptic", 0), (line, found.stderr)
            commands += 1
    assert commands >= 6
    assert Path("best.html").stat().st_size > 10_000
    assert Path("best.csv").read_text().startswith('"image","rank","score"')
    assert names["fit"].report.seen is False
