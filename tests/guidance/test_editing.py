"""An edit moves along the words, keeps the picture's size and what is outside the mask."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ecliptic.engine import Clip, load
from ecliptic.errors import ConfigError, ImageError, MissingTowerError, ShapeError
from ecliptic.guidance import WAYS, EditSettings, SketchSettings, edit, sketch
from ecliptic.guidance.editing import read_mask, read_picture
from tests.guidance.canvases.test_rasteriser import read_svg

CAT = Path(__file__).parents[2] / "src" / "ecliptic" / "report" / "drawings" / "cat.png"
QUICK = EditSettings(steps=4, size=32, views=2)


@pytest.fixture(scope="module")
def mini() -> Clip:
    return load("mini", device="cpu")


def test_a_sketch_comes_nearer_to_its_text_and_repeats(mini: Clip) -> None:
    how = SketchSettings(strokes=20, steps=25, size=40, views=2)
    found, again = (sketch("a rainbow", mini, how) for _ in range(2))
    assert found.after > found.before + 0.1
    assert found.svg() == again.svg()
    assert "<title>a rainbow</title>" in found.svg()
    other = sketch("a rainbow", mini, SketchSettings(12, 2, 48, views=1, seed=1))
    assert other.svg() != found.svg()


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_moves_along_the_words(mini: Clip, way: str) -> None:
    strokes = 30 if way == "strokes" else None
    how = EditSettings(steps=20, size=48, views=2, strokes=strokes)
    found = edit(CAT, "a cat", "a tiger", mini, way, how)
    assert found.along > 0.2
    assert found.way.losses[-1] < found.way.losses[0]
    assert found.after.shape == found.before.shape == (1, 3, 96, 96)
    assert 0 <= found.after.min() <= found.after.max() <= 1
    if way == "strokes":
        assert len(read_svg(found.svg("a tiger"))[0]) == 30
    else:
        with pytest.raises(ConfigError, match="is made of pixels, which an SVG cannot hold"):
            found.svg()


def test_keeping_more_changes_less(mini: Clip) -> None:
    changes = []
    for keep in (0.0, 5000.0):
        how = EditSettings(steps=12, size=32, views=1, keep=keep)
        found = edit(CAT, "a cat", "a tiger", mini, settings=how)
        changes.append(float((found.after - found.before).square().mean()))
    assert changes[1] < changes[0] / 2


@pytest.mark.parametrize("way", WAYS)
def test_outside_the_mask_every_byte_stays(mini: Clip, way: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    mask = np.zeros((50, 70, 3), np.uint8)
    mask[:, :30] = 255
    how = EditSettings(steps=3, size=32, views=1, mask=mask)
    found = edit(values, "a cat", "a tiger", mini, way, how)
    after = (255 * found.after[0]).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(after[:, 30:], values[:, 30:])
    assert not np.array_equal(after[:, :30], values[:, :30])
    with pytest.raises(ConfigError, match="has a mask, which an SVG cannot hold"):
        found.svg()


def test_pictures_are_upright_on_white(tmp_path: Path) -> None:
    clear = Image.new("RGBA", (4, 3), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 1).all()
    turned = Image.new("RGB", (4, 3))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (1, 3, 4, 3)
    grey = read_mask(np.full((3, 4, 3), 51, np.uint8), torch.zeros(1, 3, 3, 4))
    torch.testing.assert_close(grey, torch.full((1, 1, 3, 4), 0.2))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"way": "pixel"}, ConfigError, "way must be one of pixels, strokes, got 'pixel'; did you"),
        ({"target": "a  CAT"}, ConfigError, "are the same for the model"),
        ({"target": " "}, ConfigError, "a text is empty; name what the picture shows"),
        ({"picture": "/no/such.png"}, ImageError, "no/such.png"),
        ({"mask": np.zeros((96, 96, 3), np.uint8)}, ConfigError, "black everywhere"),
        ({"mask": np.ones((9, 96, 3), np.uint8)}, ShapeError, "the mask is 96 x 9 pixels, but the"),
        ({"strokes": 5}, ConfigError, "strokes=5 has no effect on the way 'pixels'; leave it out"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(
    mini: Clip, given: dict[str, Any], error: type[Exception], said: str
) -> None:
    words = {"picture": CAT, "source": "a cat", "target": "a dog", "way": "pixels", **given}
    how = EditSettings(mask=words.pop("mask", None), strokes=words.pop("strokes", None))
    steps: list[int] = []
    with pytest.raises(error, match=said):
        edit(**words, clip=mini, settings=how, report=lambda step, _: steps.append(step))
    assert not steps


@pytest.mark.parametrize(
    ("settings", "given", "said"),
    [
        (EditSettings, {"keep": float("nan")}, "keep must be a number at least 0, got nan"),
        (EditSettings, {"steps": 0}, "steps must be at least 1"),
        (EditSettings, {"size": 8}, "size must be at least 16"),
        (EditSettings, {"strokes": 0}, "strokes must be at least 1"),
        (SketchSettings, {"size": 5000}, "size must be at most 1024 pixels, got 5000"),
        (SketchSettings, {"strokes": 1.5}, "strokes must be a whole number"),
        (SketchSettings, {"seed": -1}, "seed must be at least 0"),
    ],
)
def test_settings_check_themselves(settings: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings(**given)


def test_a_model_without_a_side_is_refused(tmp_path: Path) -> None:
    from ecliptic.checkpoints import write
    from tests import tiny

    for kind, said in (("text", "no image side"), ("image", "no text side")):
        write(tiny.checkpoint(kind), tmp_path / kind)
        clip = load(str(tmp_path / kind), device="cpu")
        for work in (
            lambda clip=clip: edit(CAT, "a cat", "a dog", clip, settings=QUICK),
            lambda clip=clip: sketch("a cat", clip),
        ):
            with pytest.raises(MissingTowerError, match=said):
                work()


def test_what_is_transparent_in_a_mask_does_not_change(tmp_path: Path) -> None:
    mask = Image.new("RGBA", (8, 4), (255, 255, 255, 0))
    mask.paste((255, 255, 255, 255), (4, 0, 8, 4))
    mask.save(tmp_path / "mask.png")
    found = read_mask(tmp_path / "mask.png", torch.zeros(1, 3, 4, 8))
    assert found[..., :4].max() == 0
    assert found[..., 4:].min() == 1
