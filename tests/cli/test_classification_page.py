"""The command lines of the page on classification run, on the files that the page makes."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from tests.test_docs import DRAWINGS, ROOT, _command_lines, _snippets

PAGE = ROOT / "docs" / "classification.md"


def test_the_commands_of_the_page_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(DRAWINGS, tmp_path / DRAWINGS.relative_to(ROOT))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(_snippets(PAGE)[0][1], names)  # makes the pictures and the tables
    lines = _command_lines(PAGE)
    assert len(lines) == 5
    for _, *words in lines:
        done = run(*words)
        assert done.exit_code == 0, (words, done.stderr)
    assert Path("report.html").read_text(encoding="utf-8").count("<img") == 24
    assert Path("answers.csv").read_text(encoding="utf-8").count("\n") == 49
