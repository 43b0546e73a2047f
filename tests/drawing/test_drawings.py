"""Drawings of the embedded model: seeds, counts, guidance, edits, and what a judge sees."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import ecliptic
from benchmarks.drawing_judge import Judge, read_judge
from ecliptic.drawing import (
    DrawSettings,
    RedrawSettings,
    draw,
    draw_tensor,
    load_drawing,
    redraw,
    sheet,
)
from ecliptic.drawing.redrawing import fit_square, unfit_square
from ecliptic.errors import ConfigError, ShapeError
from ecliptic.guidance import ClipLoss, SampleStep
from ecliptic.report.showcase.bundled import FOLDER

QUICK = DrawSettings(clip_guidance=0.0, steps=8, seed=3)
COMMON = (
    "red apple",
    "banana",
    "tomato",
    "fire",
    "rainbow",
    "tulip",
    "carrot",
    "red heart",
    "star",
)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return read_judge(Path(__file__).parent / "judge.safetensors")


def test_a_drawing_does_not_depend_on_how_many_there_are() -> None:
    model = load_drawing()
    alone, three = (draw_tensor(model, "a cat", count, QUICK) for count in (1, 3))
    torch.testing.assert_close(three[:1], alone, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(three[0], three[1], atol=0.05)


def test_a_seed_repeats_exactly() -> None:
    first, second, other = (
        draw("a cat", clip_guidance=1.0, steps=4, seed=seed)[0].tobytes() for seed in (1, 1, 2)
    )
    assert first == second != other


def test_the_public_name_is_a_list_of_pictures() -> None:
    seen: list[SampleStep] = []
    pictures = ecliptic.draw("a house", count=2, steps=3, clip_guidance=0, watch=seen.append)
    assert [picture.size for picture in pictures] == [(64, 64), (64, 64)]
    assert [step.number for step in seen] == [1, 2, 3]


def test_clip_guidance_raises_the_similarity_to_the_words() -> None:
    model = load_drawing()
    judge = ClipLoss(model.clip, "a red apple", cutouts=0)

    def similarity(scale: float) -> float:
        found = draw_tensor(model, "a red apple", 2, DrawSettings(1.0, scale, 8, 0))
        return float(judge.similarity(found).mean())

    assert similarity(-2.0) < similarity(0.0) < similarity(3.0)


def test_unlike_pushes_away() -> None:
    model = load_drawing()
    plain = draw_tensor(model, "fruit", 4, QUICK)
    pushed = draw_tensor(model, "fruit", 4, QUICK, unlike="banana")
    like_banana = ClipLoss(model.clip, "banana", cutouts=0).similarity
    assert float(like_banana(pushed).mean()) < float(like_banana(plain).mean())


def test_a_picture_is_a_prompt() -> None:
    model = load_drawing()
    picture = sorted(FOLDER.glob("*.png"))[0]
    vector = model.clip.encode_image([picture])[0]
    found = draw_tensor(model, picture, 4, QUICK)
    other = draw_tensor(model, "a blue car", 4, QUICK)
    near = ClipLoss(model.clip, vector, cutouts=0).similarity
    assert float(near(found).mean()) > float(near(other).mean())


def test_a_judge_that_had_no_part_in_it_recognises_common_things(judge: Judge) -> None:
    model = load_drawing()
    settings = DrawSettings(clip_guidance=0.0, steps=8)
    drawings = torch.cat([draw_tensor(model, name, 2, settings) for name in COMMON])
    truth = [name for name in COMMON for _ in range(2)]
    ranks = judge.ranks(drawings, truth, judge.names)
    assert float((ranks <= 50).float().mean()) >= 0.5  # of all its names, by chance 0.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count"),
        ({"steps": 0}, "steps"),
        ({"guidance": float("nan")}, "guidance must be finite"),
        ({"clip_guidance": float("inf")}, "clip_guidance must be finite"),
        ({"prompt": " "}, "a prompt is empty"),
    ],
)
def test_bad_settings_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(**{"prompt": "a cat", **arguments})  # type: ignore[arg-type]


def test_a_redrawn_picture_keeps_its_size_and_what_is_masked(
    tmp_path: Path, picture: Callable[[tuple[int, int]], Path]
) -> None:
    mask = Image.new("L", (50, 30), 0)
    mask.paste(255, (25, 0, 50, 30))
    mask.save(tmp_path / "mask.png")
    settings = RedrawSettings(0.8, tmp_path / "mask.png", DrawSettings(steps=4))
    found = redraw(picture((50, 30)), "a red apple", "a banana", settings)
    assert found.after.shape == (1, 3, 30, 50)
    assert torch.equal(found.after[..., :25], found.before[..., :25])
    assert not torch.equal(found.after[..., 25:], found.before[..., 25:])
    assert -1 <= found.along <= 1
    assert found.way.frames[-1].step == len(found.way.frames) - 1 > 0


def test_more_strength_changes_more(picture: Callable[[tuple[int, int]], Path]) -> None:
    def change(strength: float) -> float:
        settings = RedrawSettings(strength, drawing=DrawSettings(1.0, 0.0, 12))
        found = redraw(picture((64, 64)), "a red apple", "a banana", settings)
        return float((found.after - found.before).square().mean())

    assert change(0.2) < change(0.9)


@pytest.fixture
def picture(tmp_path: Path) -> Callable[[tuple[int, int]], Path]:
    """Makes a bundled drawing of any size."""

    def make(size: tuple[int, int]) -> Path:
        image = Image.open(FOLDER / "strawberry.png")
        image.convert("RGB").resize(size).save(tmp_path / "picture.png")
        return tmp_path / "picture.png"

    return make


def test_bad_edits_are_refused(picture: Callable[[tuple[int, int]], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="strength must be above 0 and below 1"):
        RedrawSettings(strength=1.0)
    with pytest.raises(ConfigError, match="are the same for the model"):
        redraw(picture((20, 20)), "a cat", "A cat")
    Image.new("L", (5, 5), 255).save(tmp_path / "mask.png")
    with pytest.raises(ShapeError, match="mask"):
        redraw(picture((20, 20)), "a cat", "a dog", RedrawSettings(mask=tmp_path / "mask.png"))


def test_a_picture_in_a_square_comes_back() -> None:
    whole = torch.rand(1, 3, 24, 40)
    square = fit_square(whole, 40)
    assert torch.equal(square[..., 8:32, :], whole)
    torch.testing.assert_close(unfit_square(square, whole), whole, atol=1e-5, rtol=0)


def test_a_sheet_has_all_pictures() -> None:
    pictures = [Image.new("RGB", (64, 64), (n * 20, 0, 0)) for n in range(6)]
    page = sheet(pictures, columns=4, larger=2)
    assert page.size == (4 * 136 + 8, 2 * 136 + 8)
    assert page.getpixel((8 + 136 + 64, 8 + 136 + 64)) == (100, 0, 0)
    assert page.getpixel((8 + 2 * 136 + 64, 8 + 136 + 64)) == (255, 255, 255)
