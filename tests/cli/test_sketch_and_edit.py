"""`sketch` and `edit`: files of the right kind, facts, pages, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ecliptic.report.showcase import bundled

CAT = bundled.FOLDER / "cat.png"
QUICK = ("--steps", "2", "--size", "24")


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_a_sketch_is_an_svg_with_a_page(run: Any, model: str, tmp_path: Path) -> None:
    out, page = tmp_path / "cat.svg", tmp_path / "cat.html"
    result = run(
        "sketch",
        "a cat",
        *QUICK,
        "-m",
        model,
        "--strokes",
        "5",
        "-o",
        out,
        "--page",
        page,
        "--json",
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["steps"] == 2
    assert found["notice"] is None
    assert found["out"] == str(out)
    assert -1 < found["cosine_before"] < 1
    assert out.read_text().startswith("<svg")
    assert out.read_text().count("<path") == 5
    written = page.read_text(encoding="utf-8")
    for words in ("Sketch: a cat", "The way", "step 2", 'class="curve"', "Drawn with 5 strokes"):
        assert words in written


def test_a_sketch_can_be_a_png_and_repeats_with_its_seed(
    run: Any, model: str, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ("--strokes", "3", "--seed", seed, "-o", tmp_path / f"{name}.png")
        assert run("sketch", "a cat", *QUICK, "-m", model, *words).exit_code == 0
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c
    assert read(tmp_path / "a.png").shape == (768, 768, 3)


def test_an_edit_keeps_the_size_and_says_how_well_it_went(
    run: Any, model: str, tmp_path: Path
) -> None:
    out, page = tmp_path / "tiger.png", tmp_path / "tiger.html"
    words = ("--from", "a cat", "--to", "a tiger")
    result = run("edit", CAT, *words, *QUICK, "-m", model, "-o", out, "--page", page)
    assert result.exit_code == 0, result.stderr
    assert "cosine of changes" in result.stdout
    assert f"picture in {out}, page in {page}" in result.stderr
    assert read(out).shape == read(CAT).shape
    written = page.read_text(encoding="utf-8")
    for text in ("Edit: a cat to a tiger", "before", "after", 'class="curve"'):
        assert text in written


def test_an_edit_with_strokes_can_be_an_svg(run: Any, model: str, tmp_path: Path) -> None:
    words = ("--from", "a cat", "--to", "a dog", "--way", "strokes", "--strokes", "7")
    result = run("edit", CAT, *words, *QUICK, "-m", model, "-o", tmp_path / "dog.svg")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "dog.svg").read_text().count("<path") == 7


def test_a_mask_keeps_the_bytes_outside(run: Any, model: str, tmp_path: Path) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[:48] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--from", "a cat", "--to", "a tiger", "--mask", tmp_path / "mask.png")
    result = run("edit", CAT, *words, *QUICK, "-m", model, "-o", tmp_path / "out.png")
    assert result.exit_code == 0, result.stderr
    before, after = (read(path) for path in (CAT, tmp_path / "out.png"))
    assert np.array_equal(before[48:], after[48:])
    assert not np.array_equal(before[:48], after[:48])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["sketch", " "], 2, "TEXT is empty; say what to draw."),
        (["sketch", "a cat", "-o", "cat.jpg"], 2, "--out must end in .svg or .png, got cat.jpg."),
        (["sketch", "a cat", "--steps", "0"], 2, "steps"),
        (["sketch", "a cat", "-o", "old.svg"], 1, "old.svg exists; pass --force"),
        (["sketch", "a cat", "--page", "sketch.svg"], 1, "would be written twice"),
        (["edit", "CAT", "--from", "a cat"], 2, "--to"),
        (["edit", "CAT", "--from", "a", "--to", "b", "--way", "oil"], 2, "pixels, strokes"),
        (
            ["edit", "CAT", "--from", "a", "--to", "b", "--strokes", "5"],
            2,
            "--strokes 5 has no effect",
        ),
        (["edit", "CAT", "--from", "a", "--to", "b", "-o", "x.svg"], 2, "an SVG holds strokes"),
        (
            ["edit", "CAT", "--from=a", "--to=b", "--way=strokes", "--mask=CAT", "-o", "x.svg"],
            2,
            "cannot hold the picture outside the mask",
        ),
        (["edit", "CAT", "--from", "a", "--to", "b", "-o", "CAT", "--force"], 1, "is read by this"),
        (["edit", "CAT", "--from", "a cat", "--to", "A cat"], 1, "are the same for the model"),
        (["edit", "no.png", "--from", "a", "--to", "b"], 1, "there is no file no.png"),
        (
            ["edit", "CAT", "--from", "a", "--to", "b", "--keep", "nan"],
            2,
            "must be 0 or more",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_the_work(
    run: Any, words: list[str], code: int, said: str
) -> None:
    Path("old.svg").write_text("precious")
    result = run(*(word.replace("CAT", str(CAT)) for word in words))
    assert result.exit_code == code, result.stderr
    assert said in " ".join(result.stderr.split())
    assert Path("old.svg").read_text() == "precious"
    assert not Path("edited.png").exists()


def test_a_work_that_breaks_keeps_the_best_and_fails(
    run: Any, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecliptic.guidance.losses.views import OverViews

    whole = OverViews.__call__
    calls: list[int] = []

    def breaking(self: OverViews, images: Any) -> Any:
        calls.append(1)
        return whole(self, images) * (float("nan") if len(calls) > 2 else 1.0)

    monkeypatch.setattr(OverViews, "__call__", breaking)
    words = ("--steps", "5", "--size", "24", "--strokes", "3", "-o", tmp_path / "cat.svg")
    result = run("sketch", "a cat", "-m", model, *words)
    assert result.exit_code == 1
    assert "stopped early: the loss became nan in step 3; the picture is that" in result.stderr
    assert (tmp_path / "cat.svg").exists()


def test_a_picture_is_drawn_anew(run: Any, tmp_path: Path) -> None:
    out, page = tmp_path / "dog.png", tmp_path / "dog.html"
    words = ("edit", CAT, "--from", "a cat", "--to", "a dog", "--way", "drawing", "--steps", "3")
    result = run(*words, "-o", out, "--page", page, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["steps"] == 2  # times below the strength
    assert read(out).shape == read(CAT).shape
    assert "Edited in 2 steps" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--way", "drwing"), "did you mean 'drawing'"),
        (("--way", "drawing", "--keep", "1"), "--keep has no effect with --way drawing"),
        (("--way", "drawing", "--strokes", "9"), "--strokes has no effect with --way drawing"),
        (("--way", "drawing", "--strength", "1"), "strength must be above 0 and below 1"),
        (("--strength", "0.5"), "--strength has no effect with --way pixels"),
        (("--way", "drawing", "-m", "ViT-B-32/openai"), "leave --model out"),
    ],
)
def test_flags_without_effect_are_refused(run: Any, flags: tuple[str, ...], message: str) -> None:
    result = run("edit", CAT, "--from", "a cat", "--to", "a dog", "-o", "x.png", *flags)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


def test_large_seeds_differ(run: Any, tmp_path: Path) -> None:
    for seed in ("0", "4294967296", "99999999999999999999999"):
        out = tmp_path / f"{seed}.svg"
        words = ("sketch", "a cat", "--steps", "1", "--strokes", "2", "--size", "16")
        assert run(*words, "--seed", seed, "-o", out).exit_code == 0
    assert len({path.read_text() for path in tmp_path.glob("*.svg")}) == 3
