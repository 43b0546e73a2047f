"""Counts the functions between a public call and the arithmetic."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import ecliptic
from ecliptic.diffusion import conditioner
from ecliptic.model import TextTower
from tests import tiny
from tests.diffusion import pipelines
from tests.engine.models import reload

PACKAGE = Path(ecliptic.__file__).parent
PROMPT = "a (red:1.3) fox"


def frames(
    monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, call: Callable[[], Any]
) -> list[str]:
    """The package's own functions from `call` to the first `owner.method`, the outermost first."""
    found: list[str] = []
    inner = getattr(owner, method)

    def record(*given: Any, **options: Any) -> Any:
        if not found:
            frame = sys._getframe(1)
            while frame.f_back is not None:
                if Path(frame.f_code.co_filename).is_relative_to(PACKAGE):
                    found.append(frame.f_code.co_qualname)
                frame = frame.f_back
            found.reverse()
            found.append(inner.__qualname__)
        return inner(*given, **options)

    monkeypatch.setattr(owner, method, record)
    call()
    return found


@pytest.mark.parametrize("family", ["sd1", "sdxl", "flux"])
def test_a_prompt_is_at_most_7_frames_above_its_tower(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    how: Any = {"t5": torch.zeros(1, 4, 4096)} if family == "flux" else {}
    made = conditioner(family, encoders=pipelines.encoders(family), any_size=True)
    prompt = "a red fox" if family == "flux" else PROMPT  # FLUX reads no weights
    found = frames(monkeypatch, TextTower, "embed", lambda: made(prompt, dialect="a1111", **how))
    assert (found[0], found[-1]) == ("Conditioner.__call__", "TextTower.embed")
    assert len(found) <= 7, found


def test_an_image_is_at_most_8_frames_above_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = reload(tiny.checkpoint("vit"), tmp_path / "vit")
    image = Image.new("RGB", (40, 30), "red")
    attention = "scaled_dot_product_attention"
    found = frames(monkeypatch, F, attention, lambda: clip.encode_image(image))
    assert (found[0], found[-1]) == ("Clip.encode_image", attention)
    assert len(found) <= 8, found
