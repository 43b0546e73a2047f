"""The command lines of docs/scores.md run, in the folder that its Python makes."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
DRAWINGS = Path("src/ecliptic/report/drawings")
FENCE = re.compile(r"^```(python|sh)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / DRAWINGS, tmp_path / DRAWINGS)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    page = (ROOT / "docs" / "scores.md").read_text(encoding="utf-8")
    shown = []
    for kind, block in FENCE.findall(page):
        if kind == "sh":
            for line in block.splitlines():
                found = run(*shlex.split(line)[1:])
                assert found.exit_code == 0, (line, found.stderr)
                shown.append(found.stdout)
        elif "open(" in block:  # makes the files of the next commands
            exec(compile(block, "docs/scores.md", "exec"), names)
    assert len(shown) == 8
    assert "95% bootstrap interval" in shown[0]
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8").count("\n") == 11
    [means, stored] = [next(row for row in shown[i].splitlines() if "mean" in row) for i in (0, 4)]
    assert means == stored
    assert "new scores higher than old by 0." in shown[6]
    assert "chance of so large a value if both sets were of one distribution" in shown[7]
    assert "images of one name are exchanged" in shown[7]
