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


def test_only_the_page_of_the_usual_name_is_replaced_without_asking(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ecliptic-demo.html", "page.html"):
        Path(name).write_text("precious")
    assert run("demo").exit_code == 0
    assert Path("ecliptic-demo.html").read_text() != "precious"
    refused = run("demo", "-o", "page.html")
    assert refused.exit_code == 1
    assert "page.html exists; pass --force" in refused.stderr
    assert Path("page.html").read_text() == "precious"
