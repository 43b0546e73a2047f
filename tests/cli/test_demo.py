"""`demo`: writes one self-contained file and prints its path."""

from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import write
from tests import tiny


def test_the_report_is_written_and_its_path_printed(run: Any, tmp_path: Path) -> None:
    write(tiny.checkpoint("vit"), tmp_path / "model")
    out = tmp_path / "new" / "demo.html"
    result = run("demo", "--out", out, "--model", tmp_path / "model")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert "drawings classified correctly" in result.stderr
    assert out.read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")


def test_open_shows_it_in_the_browser(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tiny.checkpoint("vit"), tmp_path / "model")
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    out = tmp_path / "demo.html"
    assert run("demo", "-o", out, "-m", tmp_path / "model", "--open").exit_code == 0
    assert opened == [str(out)]
