"""Scripts of the wild print the same with the original libraries and with `ecliptic.compat`."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ecliptic.checkpoints import Checkpoint, write
from ecliptic.compat import clip, open_clip
from tests import peers, tiny
from tests.compat import original_clip, wild_clip, wild_open_clip

Script = Callable[[Any, str, Image.Image, Path], None]
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def held() -> Iterator[dict[str, Checkpoint]]:
    """Tiny checkpoints with the real context, which scripts take for granted."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("vit", "resnet"):
            text = replace(tiny.TEXT, context=77, depth=2)
            patch.setitem(tiny.CONFIGS, f"wild_{kind}", replace(tiny.CONFIGS[kind], text=text))
        yield {kind: tiny.checkpoint(f"wild_{kind}") for kind in ("vit", "resnet")}


@pytest.fixture(scope="module")
def files(held: dict[str, Checkpoint], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoints in the layouts of both projects."""
    folder = tmp_path_factory.mktemp("wild")
    for kind, checkpoint in held.items():
        write(checkpoint, folder / f"{kind}.pt", layout="openai")
        write(checkpoint, folder / kind, layout="open_clip")
    return {kind: folder / kind for kind in held}


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    gradient = Image.linear_gradient("L").resize((90, 70))
    return Image.merge("RGB", (gradient, gradient.rotate(40), gradient.rotate(180)))


def printed(script: Script, library: Any, name: str, picture: Image.Image, folder: Path) -> str:
    folder.mkdir()
    with redirect_stdout(io.StringIO()) as out:
        script(library, name, picture, folder)
    return out.getvalue()


def assert_same(found: str, wanted: str) -> None:
    assert wanted.strip()
    assert NUMBER.sub("#", found) == NUMBER.sub("#", wanted)
    numbers = [list(map(float, NUMBER.findall(text))) for text in (found, wanted)]
    for a, b in zip(*numbers, strict=True):
        assert a == pytest.approx(b, rel=TOLERANCE, abs=TOLERANCE)


def cases(module: Any) -> list[Any]:
    return [
        pytest.param(kind, script, id=f"{kind}-{script.__name__}")
        for kind, scripts in (("vit", module.VIT), ("resnet", module.RESNET))
        for script in scripts
    ]


@pytest.mark.filterwarnings("ignore:.torch.jit.load.")
@pytest.mark.parametrize(("kind", "script"), cases(wild_clip))
def test_scripts_for_clip_print_the_same(
    kind: str,
    script: Script,
    held: dict[str, Checkpoint],
    files: dict[str, Path],
    picture: Image.Image,
    tmp_path: Path,
) -> None:
    original = original_clip.library(held[kind], tmp_path)
    path = str(files[kind].with_suffix(".pt"))
    wanted = printed(script, original, path, picture, tmp_path / "original")
    assert_same(printed(script, clip, path, picture, tmp_path / "compat"), wanted)


@pytest.mark.parametrize(("kind", "script"), cases(wild_open_clip))
def test_scripts_for_open_clip_print_the_same(
    kind: str, script: Script, files: dict[str, Path], picture: Image.Image, tmp_path: Path
) -> None:
    name = f"local-dir:{files[kind]}"
    wanted = printed(script, peers.open_clip(), name, picture, tmp_path / "original")
    assert_same(printed(script, open_clip, name, picture, tmp_path / "compat"), wanted)


def test_there_are_more_than_thirty_scripts() -> None:
    scripts = {*wild_clip.VIT, *wild_clip.RESNET, *wild_open_clip.VIT, *wild_open_clip.RESNET}
    assert len(scripts) >= 30
