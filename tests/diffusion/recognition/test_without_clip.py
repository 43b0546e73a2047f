"""Models without a CLIP text encoder are refused by name, and say what they read instead."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ecliptic.diffusion import FAMILIES, conditioner, explain_missing_family
from ecliptic.errors import ConfigError
from tests import peers


@pytest.mark.parametrize(
    ("name", "reads"),
    [
        ("pixart", "T5"),
        ("PixArt-Sigma", "T5"),
        ("if", "T5"),
        ("hunyuandit", "BERT"),
        ("sana", "Gemma 2"),
        ("wan", "UMT5"),
        ("qwen-image", "Qwen2.5-VL"),
        ("kolors", "ChatGLM3"),
    ],
)
def test_a_model_without_clip_is_refused_by_name(name: str, reads: str) -> None:
    with pytest.raises(ConfigError, match=f"reads .*{re.escape(reads)}.* no family for it"):
        conditioner(name, "nowhere")


def test_a_family_and_a_typing_mistake_are_not_taken_for_such_a_model() -> None:
    for name in (*FAMILIES, "sdxxl", "flux1", "wan-i2v", "ifoo", "", "StableDiffusionPipeline"):
        assert explain_missing_family(name) is None, name
    with pytest.raises(ConfigError, match="did you mean"):
        conditioner("sdxxl", "nowhere")


CLASS = re.compile(r"^class (\w+Pipeline\w*)\((.*?)(?=^class |\Z)", re.M | re.S)
IMAGES = {"WanImageToVideo", "WanAnimate", "SkyReelsV2ImageToVideo", "ChronoEdit"}  # "wan-i2v"


def pipelines_of_diffusers() -> Iterator[tuple[str, str]]:
    """Every pipeline class that has a text encoder, and the types of these."""
    root = Path(str(peers.diffusers().__file__)).parent / "pipelines"
    for file in sorted(root.rglob("pipeline_*.py")):
        for name, body in CLASS.findall(file.read_text(encoding="utf-8")):
            made = re.search(r"def __init__\(\n(.*?)\n    \)", body, re.S)
            kinds = re.findall(r"text_encoder(?:_\d)?: *([^=\n]+)", made[1] if made else "")
            if kinds and "Onnx" not in name:
                yield name, " ".join(kinds)


def test_every_pipeline_of_diffusers_without_a_clip_is_explained() -> None:
    found = dict(pipelines_of_diffusers())
    assert len(found) > 150
    with_clip = {name for name, kinds in found.items() if re.search(r"\bCLIPText", kinds)}
    with_clip |= {f"{name}Pipeline" for name in IMAGES}
    explained = {name for name in found if explain_missing_family(name) is not None}
    assert explained & with_clip == set()
    assert set(found) - with_clip - explained == set()
