"""Exit codes, streams, locales and speed of every command."""

import json
import os
import signal
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import ecliptic
from ecliptic.cli.main import app
from ecliptic.cli.pages import list_commands

COMMAND = [sys.executable, "-m", "ecliptic"]
HEAVY = {"torch", "numpy", "PIL", "huggingface_hub"}


def ecliptic_process(*words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *words], capture_output=True, timeout=120, **options)


def test_version_is_the_packages(run: Any) -> None:
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"ecliptic {ecliptic.__version__}\n")


def test_help_names_every_command_and_the_exit_codes(run: Any) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in app.registered_commands:
        assert f" {command.callback.__name__} " in result.stdout  # type: ignore[union-attr]
    assert "130" in result.stdout


@pytest.mark.parametrize(
    "command", [name for name, _ in list_commands(typer.main.get_command(app))]
)
def test_every_command_explains_itself(run: Any, command: str) -> None:
    *group, name = command.split()
    result = run(*group, name, "--help")
    assert result.exit_code == 0
    words = result.stdout.splitlines()[2]
    assert words.strip().endswith(".")
    assert words.strip() in run(*group, "--help").stdout  # whole, not cut


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["embed", "--help"], []])
def test_f8_help_and_version_import_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom ecliptic.cli.main import run\n"
        f"sys.argv = ['ecliptic', *{words}]\n"
        "try:\n    run()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = set(found.stderr.splitlines()[-1].split())
    assert "typer" in loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_f8_help_and_version_start_quickly(word: str) -> None:
    """Processor time, beside that of the library that prints the help; other work counts less."""

    def seconds_of(run: Callable[[], Any]) -> float:
        found = []
        for _ in range(5):
            before = os.times()
            assert run().returncode == 0
            after = os.times()
            user = after.children_user - before.children_user
            found.append(user + after.children_system - before.children_system)
        return statistics.median(found)

    ours = seconds_of(lambda: ecliptic_process(word))
    libraries = [sys.executable, "-c", "import typer, rich.console, rich.table"]
    assert ours < 5 * seconds_of(lambda: subprocess.run(libraries, check=False))


@pytest.mark.parametrize("words", [["--bogus"], ["nonsense"], ["tokens"], ["embed"]])
def test_wrong_usage_exits_with_2(run: Any, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [["-l", "cat", "-l", "dog"], ["--labels=cat", "-ldog"], ["-l", "cat", "--labels", "cat"]],
)
def test_a_flag_with_a_value_is_given_once(run: Any, words: list[str]) -> None:
    result = run("classify", "x.png", *words)
    assert result.exit_code == 2
    assert "Error: --labels is given twice, but takes one value." in result.stderr


def test_help_is_shown_whatever_else_is_given(run: Any) -> None:
    result = run("classify", "x.png", "-l", "cat", "-l", "dog", "--help")
    assert result.exit_code == 0
    assert "--labels" in result.stdout


def test_a_command_ends_without_a_search_for_garbage() -> None:
    code = (
        "import atexit, gc, sys\nfrom ecliptic.cli.main import run\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0, file=sys.stderr))\n"
        "sys.argv = ['ecliptic', 'models']\nrun()"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stderr.split()[-1] == "True"


def test_a_flag_without_a_value_may_be_repeated(run: Any) -> None:
    assert run("models", "--json", "--json").exit_code == 0


def test_errors_are_one_message_on_stderr_and_exit_with_1(run: Any, tmp_path: Path) -> None:
    result = run("info", tmp_path / "nothing.pt")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert "nothing.pt" in result.stderr
    assert "Traceback" not in result.stderr


def test_traceback_is_shown_when_asked_for(run: Any, tmp_path: Path) -> None:
    result = run("--traceback", "info", tmp_path / "nothing.pt")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr


def test_a_bug_is_not_dressed_up_as_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ecliptic.inputs.token_spans.ledger", broken)
    result = CliRunner().invoke(app, ["tokens", "x"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_a_file_in_the_way_is_a_message_too(run: Any, model: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = run("convert", model, tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")


JSON_COMMANDS = {
    "models": ["models", "--json"],
    "info": ["info", "MODEL", "--json", "--fingerprint"],
    "convert": ["convert", "MODEL", "TMP/out", "--json"],
    "doctor": ["doctor", "MODEL", "MODEL", "--json"],
    "bench": ["bench", "MODEL", "--batch", "1", "--seconds", ".01", "--peer", "none", "--json"],
    "embed": ["embed", "IMAGES", "-t", "a cat", "-m", "MODEL", "-o", "TMP/v.npy", "--json"],
    "similarity": ["similarity", "IMAGES", "-t", "a cat", "-m", "MODEL", "--json"],
    "classify": ["classify", "IMAGES", "-l", "cat,dog", "-m", "MODEL", "--json"],
    "tokens": ["tokens", "a cat", "--json"],
    "lint": ["lint", "a cat cat", "--json"],
}


@pytest.mark.parametrize("words", JSON_COMMANDS.values(), ids=JSON_COMMANDS.keys())
def test_f10_stdout_is_json_and_nothing_else(
    run: Any, words: list[str], model: str, images: Path, tmp_path: Path
) -> None:
    places = {"MODEL": model, "IMAGES": str(images), "TMP": str(tmp_path)}
    for name, place in places.items():
        words = [word.replace(name, place) for word in words]
    result = run(*words)
    assert result.exit_code in (0, 3), result.stderr
    assert json.loads(result.stdout)
    assert result.stdout.isascii()


def test_f11_a_reader_that_goes_away_is_no_error() -> None:
    for words in (["models"], ["models", "--json"], ["tokens", "a " * 2000]):
        with subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()  # before the first byte, as `| true` would
            said = process.stderr.read()
            process.wait(timeout=60)
        assert process.returncode == 1
        assert b"Traceback" not in said
        assert b"rror" not in said


def test_ctrl_c_exits_with_130_and_no_traceback() -> None:
    code = (
        "import os, signal\nfrom ecliptic.cli import run, texts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored under nohup
        "texts.text_or_file = lambda text: os.kill(os.getpid(), signal.SIGINT)\n"
        "run()\n"
    )
    found = subprocess.run([sys.executable, "-c", code, "lint", "x"], capture_output=True)
    assert found.returncode == 128 + signal.SIGINT
    assert found.stderr == b"interrupted\n"


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", None])
def test_f12_any_locale_prints_any_text(locale: str, encoding: str | None) -> None:
    environment = {**os.environ, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    if encoding:
        environment["PYTHONIOENCODING"] = encoding
    text = "caf\u00e9 \u732b \N{GRINNING FACE}".encode()
    for words in (["tokens", text], ["tokens", text, "--json"], ["lint", text]):
        found = ecliptic_process(*words, env=environment)  # type: ignore[arg-type]
        assert found.returncode in (0, 1), found.stderr  # an ASCII locale cannot decode the text
        assert b"Traceback" not in found.stderr
        assert found.returncode == 0 or b"surrogate" in found.stderr


@pytest.mark.parametrize("words", [[], ["captions"]])
def test_a_bare_command_prints_its_help_in_lines(run: Any, words: list[str]) -> None:
    result = run(*words)
    printed = result.stdout + result.stderr
    assert result.exit_code == 2
    assert "\\n" not in printed
    assert len(printed.splitlines()) > 10
