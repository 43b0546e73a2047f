"""A newcomer's tour: each command once, on the built-in model, at 80 columns.

README and quickstart run as written in `tests/test_first_steps.py`.
"""

from pathlib import Path
from typing import Any

import pytest

from ecliptic.cli.main import app
from ecliptic.report.showcase import bundled

DRAWINGS = bundled.FOLDER
CAT, ROCKET = DRAWINGS / "cat.png", DRAWINGS / "rocket.png"
TOUR: dict[str, list[Any]] = {
    "demo": ["demo"],
    "models": ["models"],
    "models found": ["models", "ViT-B-32"],
    "info": ["info", "mini"],
    "convert": ["convert", "mini", "copy"],
    "doctor": ["doctor", "mini", "copy"],
    "bench": ["bench", "--batch", "1", "--seconds", "0.01", "--peer", "none"],
    "embed": ["embed", DRAWINGS, "-o", "drawings.npy"],
    "similarity": [
        "similarity",
        CAT,
        ROCKET,
        "-t",
        "a cat",
        "-t",
        "a very long text about a rocket",
    ],
    "similarity of vectors": ["similarity", "drawings.npy", "-t", "a red fruit", "-k", "3"],
    "index": ["index", DRAWINGS, "-o", "d.library"],
    "index again": ["index", DRAWINGS, "-o", "d.library"],
    "search": ["search", "d.library", "a red fruit", "a cat"],
    "search like": ["search", "d.library", "--like", CAT, "--unlike", "a dog", "--page", "p.html"],
    "duplicates": ["duplicates", "d.library", "--threshold", "0.5"],
    "library": ["library", "info", "d.library"],
    "library checked": ["library", "check", "d.library", "--deep"],
    "classify": ["classify", CAT, ROCKET, "--labels", "cat,rocket,strawberry,castle"],
    "classify many": ["classify", DRAWINGS, "--labels", "animal,vehicle,food", "-k", "2"],
    "aesthetic": ["aesthetic", "--train", "ratings.csv", "--save", "taste.safetensors"],
    "aesthetic of images": ["aesthetic", DRAWINGS, "--head", "taste.safetensors", "--best", "5"],
    "score": ["score", "pairs.csv"],
    "score of sets": ["score", DRAWINGS, DRAWINGS, "--metric", "cmmd"],
    "moderate": ["moderate", DRAWINGS, "--rules", "rules.toml"],
    "draw": ["draw", "a cat", "--steps", "2", "--count", "2", "-o", "cats.png"],
    "sketch": ["sketch", "a cat", "--steps", "2", "--strokes", "3", "--page", "sketch.html"],
    "edit": ["edit", CAT, "--from", "a cat", "--to", "a tiger", "--steps", "2", "-o", "t.png"],
    "edit by drawing": [
        *("edit", CAT, "--from", "a cat", "--to", "a dog", "--way", "drawing", "--steps", "2"),
        *("-o", "redrawn.png"),
    ],
    "tokens": ["tokens", "a photo of a cat"],
    "lint": ["lint", "a photo of  a cat"],
    "condition": ["condition", "a (red:1.3) fox", "--for", "sd1", "-e", "mini", "--any-size"],
    "captions": [
        *("captions", "write", "captions.csv", "--for", "sd1", "-e", "mini", "--any-size"),
        *("-o", "cache"),
    ],
    "captions checked": ["captions", "verify", "cache"],
}


def test_every_command_is_in_the_tour() -> None:
    commands = {info.name or info.callback.__name__ for info in app.registered_commands}  # type: ignore[union-attr]
    groups = {group.name for group in app.registered_groups}
    assert commands | groups - {None} == {words[0] for words in TOUR.values()} | {
        "train",
        "guide",
    }  # these need data or a pipeline


def test_the_tour_fits_80_columns(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    Path("captions.csv").write_text("caption\na cat\na dog\n", encoding="utf-8")
    rated = [f"{path},{len(path.stem)}\n" for path in sorted(DRAWINGS.glob("*.png"))]
    Path("ratings.csv").write_text("image,rating\n" + "".join(rated), encoding="utf-8")
    pairs = [f"{path},a drawing of a {path.stem}\n" for path in sorted(DRAWINGS.glob("*.png"))]
    Path("pairs.csv").write_text("image,caption\n" + "".join(pairs), encoding="utf-8")
    rules = ('name = "food"', 'positive = ["food"]', 'contrast = ["an animal"]', "threshold = 0.1")
    Path("rules.toml").write_text("\n".join(["[[concepts]]", *rules]), encoding="utf-8")
    for name, words in TOUR.items():
        result = run(*words)
        assert result.exit_code == 0, (name, result.stderr)
        for line in (*result.stdout.splitlines(), *result.stderr.splitlines()):
            short = str(DRAWINGS) in line or len(line) <= 80
            assert short or line.startswith("warning: "), (name, line)
        assert "Traceback" not in result.stderr
