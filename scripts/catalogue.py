"""The page that lists the catalogue of failures and the tests of each: `docs/test-catalogue.md`.

A test covers a case when its name begins with the number of the case: `test_c4_a_bomb_is_refused`.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1] / "tests"
_NUMBER = re.compile(r"test_((?:[a-f]\d{1,2}_)+)")


def covering_tests() -> dict[str, list[tuple[str, str]]]:
    """(file, test) pairs by the number of each case; a test may name several: `test_c3_c5_...`."""
    found: dict[str, list[tuple[str, str]]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for name in test_names(path):
            match = _NUMBER.match(name)
            for number in match[1].strip("_").split("_") if match else ():
                place = str(path.relative_to(TESTS))
                found.setdefault(number.upper(), []).append((place, name))
    return found


def test_names(path: Path) -> Iterator[str]:
    """The names of the tests in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name


def cases() -> dict[str, dict[str, Any]]:
    """Every case by its number, with `case`, `expected`, `title` of its group and maybe `needs`."""
    table = tomllib.loads((TESTS / "catalogue.toml").read_text(encoding="utf-8"))
    return {
        number: {"title": group["title"], **row}
        for group in table.values()
        for number, row in group.items()
        if number != "title"
    }


def catalogue(note: str) -> str:
    """The page; `note` says that it is generated."""
    tests, rows = covering_tests(), cases()
    covered = sum(number in tests for number in rows)
    waiting = sum("needs" in row and number not in tests for number, row in rows.items())
    lines = [note, "# Catalogue of failures, and their tests", ""]
    lines += [
        f"{len(rows)} cases: {covered} have tests, {waiting} wait for a part that is not built",
        f"yet, {len(rows) - covered - waiting} have no test.",
        "The name of a test begins with the number of its case. What is promised:",
        "[security.md](security.md).",
    ]
    title = ""
    for number, row in rows.items():
        if row["title"] != title:
            title = row["title"]
            lines += ["", f"## {title}", "", "| case | what happens | expected | tests |"]
            lines.append("|---|---|---|---|")
        cells = (number, row["case"], row["expected"], _state(row, tests.get(number, [])))
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _state(row: dict[str, Any], tests: list[tuple[str, str]]) -> str:
    if not tests:
        return f"waits for: {row['needs']}" if "needs" in row else "**no test**"
    places = dict.fromkeys(place for place, _ in tests)
    counts = {place: sum(other == place for other, _ in tests) for place in places}
    return ", ".join(f"`{place}`" + f" ({n})" * (n > 1) for place, n in counts.items())
