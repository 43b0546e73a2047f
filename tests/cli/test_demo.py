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
    assert "drawings named correctly" in result.stderr
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
    run: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ecliptic-demo.html", "page.html"):
        Path(name).write_text("precious")
    assert run("demo", "-m", model).exit_code == 0
    assert Path("ecliptic-demo.html").read_text() != "precious"
    refused = run("demo", "-m", model, "-o", "page.html")
    assert refused.exit_code == 1
    assert "page.html exists; pass --force" in refused.stderr
    assert Path("page.html").read_text() == "precious"


def test_own_images_in_a_folder_and_a_table(
    run: Any, images: Path, tmp_path: Path, model: str
) -> None:
    table = tmp_path / "more.csv"
    table.write_text("file\nimages/a.png\nimages/missing.png\n", encoding="utf-8")
    out = tmp_path / "own.html"
    result = run(
        *("demo", "--images", images, "--images", table, "--column", "file"),
        *("--queries", "a cat, a dog", "-m", model, "-o", out),
    )
    assert result.exit_code == 3, result.stderr
    assert result.stdout == f"{out}\n"
    for name in ("broken.png", "missing.png"):
        assert f"{name}" in result.stderr
        assert f"{name}" in out.read_text(encoding="utf-8")
    assert "Nearest to each text" in result.stderr
    assert "a dog: " in result.stderr
    assert "mini knows drawings" not in result.stderr


def test_queries_from_a_file(run: Any, images: Path, tmp_path: Path, model: str) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("a cat, asleep\na dog\n", encoding="utf-8")
    out = tmp_path / "own.html"
    a = images / "a.png"
    result = run("demo", "--images", a, "--queries-file", texts, "-m", model, "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "a cat, asleep: a.png" in result.stderr


def test_mini_says_that_it_does_not_know_photographs(
    run: Any, images: Path, tmp_path: Path
) -> None:
    result = run("demo", "--images", images / "a.png", "-o", tmp_path / "own.html")
    assert result.exit_code == 0, result.stderr
    assert "mini knows drawings; for photographs add --model" in result.stderr


@pytest.mark.parametrize("activates", [True, False])
def test_the_last_line_says_how_to_get_the_command_onto_path(
    run: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, activates: bool
) -> None:
    def last_line() -> str:
        return run("demo", "-m", model).stderr.splitlines()[-1]  # type: ignore[no-any-return]

    programs = tmp_path / "my env" / "bin"
    programs.mkdir(parents=True)
    program = programs / "ecliptic"
    program.write_text("")
    program.chmod(0o755)
    if activates:
        (programs / "activate").write_text("")
    monkeypatch.setattr("sys.argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    last = last_line()
    if activates:
        assert last.endswith(f"in this shell: source '{programs}/activate'")
    else:
        assert last == f"to use it again, type '{program}' in place of ecliptic"
    monkeypatch.setenv("PATH", str(programs))
    assert "ecliptic" not in last_line().replace("browser", "")
    monkeypatch.setattr("sys.argv", ["/somewhere/pytest"])
    assert last_line() == "open this file in a browser:"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--queries", "a cat"), "--images"),
        (("--images", "TABLE"), "--column"),
        (("--images", "x.png", "--queries", "a", "--queries-file", "b"), "either"),
        (("--images", "x.png", "--queries", __file__), "--queries-file"),
        (("--images", "x.png", "--limit", "0"), "limit"),
    ],
)
def test_wrong_usage_says_what_is_missing(
    run: Any, tmp_path: Path, table: Path, words: tuple[str, ...], said: str
) -> None:
    words = tuple(word.replace("TABLE", str(table)) for word in words)
    result = run("demo", *words, "-o", tmp_path / "demo.html")
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert not (tmp_path / "demo.html").exists()


def test_no_usable_image_is_an_error_without_a_page(
    run: Any, images: Path, tmp_path: Path, model: str
) -> None:
    out = tmp_path / "own.html"
    result = run("demo", "--images", images / "broken.png", "-m", model, "-o", out)
    assert result.exit_code == 1
    assert not out.exists()
