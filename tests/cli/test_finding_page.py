"""The page on finding runs as it is written: its commands and its Python, in one folder."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

from ecliptic.report.showcase.bundled import FOLDER
from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_four_commands_lead_from_a_folder_to_a_contact_sheet(run: Run) -> None:
    shutil.copytree(FOLDER, Path.cwd() / FOLDER.relative_to(ROOT))
    names: dict[str, Any] = {"__name__": "__main__"}
    page = (ROOT / "docs" / "finding.md").read_text(encoding="utf-8")
    first, *blocks = BLOCK.findall(page)
    assert len(first[1].splitlines()) == 4
    for kind, code in [first, *blocks]:
        if kind == "python":
            exec(compile(code, "finding.md", "exec"), names)
            continue
        for line in code.splitlines():
            program, *words = shlex.split(line, comments=True)
            found = run(*words)
            assert (program, found.exit_code) == ("ecliptic", 0), (line, found.stderr)
    sheet = Path("found.html").read_text(encoding="utf-8")
    assert sheet.count("data:image/jpeg;base64,") == 10
    assert Path("duplicates.html").stat().st_size > 5_000
    assert len(names["library"]) == len(list(FOLDER.glob("*.png")))
    assert names["hits"].paths[0].is_file()
