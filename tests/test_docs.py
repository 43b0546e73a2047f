"""Check the docs: every name is documented, every snippet runs, every link has a target."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ecliptic
from ecliptic.drawing import DrawingSettings
from ecliptic.settings import load_toml
from ecliptic.train import TrainSettings
from scripts import catalogue, pages
from tests.test_architecture import LAYERS

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
DRAWINGS = ROOT / "src" / "ecliptic" / "report" / "drawings"
# How each recipe is run; those of CLIP models by the command line.
RECIPES = {
    path: ("python -m scripts.drawing", DrawingSettings)
    if path.stem == "drawing"
    else ("ecliptic train", TrainSettings)
    for path in sorted(ROOT.glob("recipes/*.toml"))
}
FENCE = re.compile(r"^```(.*?)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
PRIVATE = re.compile(  # folders of one machine, and hosts from which packages are installed
    r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+|opt/\w+)/|files\.pythonhosted\.|://pypi\."
)


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _text_files() -> list[Path]:
    """Every text file under version control; outside a checkout, every text file."""
    git = ["git", "ls-files", "--cached", "-z"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    paths = [ROOT / name for name in listed.split("\0") if name] or list(ROOT.rglob("*.*"))
    endings = {".py", ".md", ".toml", ".txt", ".csv", ".json", ".html", ".css", ""}
    return [path for path in paths if path.is_file() and path.suffix in endings]


# --- names -------------------------------------------------------------------------------------


def test_every_public_name_has_a_docstring() -> None:
    silent = [
        f"{module}.{name}"
        for module, name, found in pages.public_names()
        if callable(found)
        and getattr(found, "__module__", "").startswith("ecliptic")
        and not pages.summary(found)
    ]
    assert not silent, f"write a docstring for {silent}"


@pytest.mark.parametrize("name", pages.PAGES)
def test_pages_written_from_the_code_are_current(name: str) -> None:
    assert _text(ROOT / "docs" / name) == pages.PAGES[name](), "run `make docs`"


def test_tests_name_only_cases_of_the_catalogue() -> None:
    unknown = catalogue.covering_tests().keys() - catalogue.cases().keys()
    assert not unknown, f"tests/catalogue.toml has no {unknown}"


def test_the_page_of_promises_names_existing_tests() -> None:
    page = _text(ROOT / "docs" / "security.md")
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        names.add(str(path.relative_to(ROOT / "tests")))
        names.update(catalogue.test_names(path))
    for found in re.findall(r"`((?:\w+/)*test_\w+(?:\.py|\*)?)`", page):
        known = any(n.startswith(found[:-1]) for n in names) if found[-1] == "*" else found in names
        assert known, f"docs/security.md names {found}, which is no test"


def test_the_page_of_commands_is_current(tmp_path: Path) -> None:
    page = tmp_path / "cli.md"
    subprocess.run([sys.executable, "-m", "ecliptic.cli.pages", str(page)], check=True)
    assert _text(ROOT / "docs" / "cli.md") == _text(page), "run `make docs`"


def test_what_users_import_is_explained_in_prose() -> None:
    """The names of `ecliptic` itself are in a hand-written page, not only in the generated list."""
    written = "".join(_text(page) for page in PAGES if page.stem not in ("reference", "cli"))
    missing = [
        name for name in ecliptic.__all__ if not re.search(rf"\becliptic\.{name}\b", written)
    ]
    assert not missing, f"explain {missing} in docs/"


def test_every_page_is_reached_from_the_readme() -> None:
    seen, waiting = set(), [README]
    while waiting:
        page = waiting.pop()
        if page not in seen:
            seen.add(page)
            linked = {target for target, _ in _local_links(page) if target.suffix == ".md"}
            waiting += [target for target in linked if target.exists()]
    lost = [_name(page) for page in PAGES if page.resolve() not in {s.resolve() for s in seen}]
    assert not lost, f"link to {lost} from the README or from a page it links to"


# --- links -------------------------------------------------------------------------------------


def _local_links(page: Path) -> Iterator[tuple[Path, str]]:
    """(file, anchor) of every link to this repository."""
    for target in LINK.findall(FENCE.sub("", _text(page))):
        if not re.match(r"\w+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, spelled as on GitHub."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", _text(page)), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        f"{target.name}#{anchor}"
        for target, anchor in _local_links(page)
        if not target.exists() or (anchor and anchor not in _anchors(target))
    ]
    assert not broken, f"{page.name} links to {broken}"


def test_files_named_in_the_architecture_exist() -> None:
    text = _text(ROOT / "docs" / "architecture.md").partition("## What comes later")[0]
    named = re.findall(r"`([\w/]+/[\w.]+\.(?:py|toml))`", text)
    places = (ROOT, ROOT / "src", ROOT / "src" / "ecliptic")
    lost = [name for name in named if not any((place / name).exists() for place in places)]
    assert named
    assert not lost, f"docs/architecture.md names {lost}, which moved"


def test_the_map_of_the_readme_has_every_part_in_its_layer() -> None:
    rows = re.findall(r"^\| (\d) \| (.*?) \|", _text(README), flags=re.MULTILINE)
    mapped = {name: int(n) for n, cell in rows for name in re.findall(r"\[`(\w+)`\]", cell)}
    parts = {p.parent.name for p in (ROOT / "src" / "ecliptic").glob("*/__init__.py")}
    files = {p.stem for p in (ROOT / "src" / "ecliptic").glob("*.py")}
    parts |= files - {"__init__", "__main__"}
    assert mapped == {part: LAYERS[part] for part in parts}


# --- snippets ----------------------------------------------------------------------------------


def _snippets(page: Path) -> list[tuple[int, str]]:
    """(line, code) of every Python block that is meant to run."""
    text = _text(page)
    return [
        (text[: match.start()].count("\n") + 1, match[2])
        for match in FENCE.finditer(text)
        if match[1].strip() == "python"
    ]


RUN_IN_A_CLONE = ("README.md", "quickstart.md")  # by test_first_steps.py


@pytest.mark.parametrize(
    "page", [p for p in PAGES if _snippets(p) and p.name not in RUN_IN_A_CLONE], ids=_name
)
def test_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of one page share their names; the drawings have the same path as in a checkout."""
    shutil.copytree(DRAWINGS, tmp_path / DRAWINGS.relative_to(ROOT))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, code in _snippets(page):
        exec(compile("\n" * line + code, _name(page), "exec"), names)


def _command_lines(page: Path) -> list[list[str]]:
    """The words of every `ecliptic ...` and `make ...` line in a page's shell blocks."""
    return [
        shlex.split(line, comments=True)
        for kind, block in FENCE.findall(_text(page))
        if kind.split()[:1] == ["sh"]
        for line in block.splitlines()
        if line.startswith(("ecliptic ", "make "))
    ]


@pytest.mark.parametrize("page", [p for p in PAGES if _command_lines(p)], ids=_name)
def test_shell_lines_use_commands_and_flags_that_exist(page: Path) -> None:
    commands = re.split(r"^## ecliptic ", _text(ROOT / "docs" / "cli.md"), flags=re.MULTILINE)
    known = {part.splitlines()[0]: set(re.findall(r"`(--?[\w-]+)`", part)) for part in commands[1:]}
    targets = set(re.findall(r"^([a-z-]+):", _text(ROOT / "Makefile"), flags=re.MULTILINE))
    for program, verb, *words in _command_lines(page):
        if program == "make":
            assert {verb, *words} <= targets, f"{page.name}: make {verb}"
            continue
        if words and f"{verb} {words[0]}" in known:  # a command of a group
            verb = f"{verb} {words[0]}"
        assert verb in known or verb.startswith("--"), f"{page.name}: ecliptic {verb}"
        flags = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
        assert flags <= known.get(verb, set()), f"{page.name}: ecliptic {verb} {flags}"


def _run_example(example: Path, folder: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(example), folder]
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/*.py")), ids=_name)
def test_examples_run_also_after_a_run_without_images(example: Path, tmp_path: Path) -> None:
    """An empty result of the first run must not be what later runs show."""
    (tmp_path / "images").mkdir()
    for folder in ("images", "missing"):
        ran = _run_example(example, folder, tmp_path)
        assert ran.returncode == 1
        assert folder in ran.stderr
        assert "Traceback" not in ran.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    shutil.copytree(DRAWINGS, tmp_path / "images", dirs_exist_ok=True)
    ran = _run_example(example, "images", tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "cat.png" in ran.stdout


# --- recipes, versions, paths ------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES, ids=_name)
def test_recipes_load_and_say_what_to_expect(recipe: Path) -> None:
    command, settings = RECIPES[recipe]
    load_toml(settings, recipe)
    header = re.match(r"(?:#.*\n)+", _text(recipe))
    assert header, "a recipe begins with comments"
    for word in ("Command:", "Time:", "Expected:"):
        assert word in header[0], f"the header of {recipe.name} lacks {word!r}"
    assert f"{command} recipes/{recipe.name}" in header[0]


def test_the_changelog_names_this_version() -> None:
    newest = re.search(r"^## (\S+)", _text(ROOT / "CHANGELOG.md"), flags=re.MULTILINE)
    assert newest
    assert newest[1] == ecliptic.__version__


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = [
        f"{_name(path)}: {match[0]}"
        for path in _text_files()
        for match in PRIVATE.finditer(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found, f"write these relative to the checkout: {found}"
