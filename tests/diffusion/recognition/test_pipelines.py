"""The family of a pipeline's folder, and the folders that contradict a family."""

import json
from pathlib import Path
from typing import Any

import pytest

from ecliptic.diffusion import FAMILIES, conditioner
from ecliptic.diffusion.recognition.pipelines import check_family, recognise_family
from ecliptic.errors import ConfigError, UnknownModelError
from tests import peers
from tests.diffusion import pipelines

KIND = "diffusers"
L = {"hidden_size": 768, "hidden_act": "quick_gelu"}
H = {"hidden_size": 1024, "hidden_act": "gelu"}
G = {"hidden_size": 1280, "hidden_act": "gelu"}
BOTH = {"text_encoder": L, "text_encoder_2": G}


def write(folder: Path, name: str, encoders: dict[str, dict[str, Any]]) -> Path:
    """A folder with an index and the configs of its encoders."""
    index: dict[str, Any] = {"_class_name": name, "_diffusers_version": "0.42.1"}
    folder.mkdir(exist_ok=True)
    for part, config in encoders.items():
        index[part] = ["transformers", "CLIPTextModel"]
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "config.json").write_text(json.dumps(config), encoding="utf-8")
    index |= {"image_encoder": [None, None], "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("name", "encoders", "family"),
    [
        ("StableDiffusionPipeline", {"text_encoder": L}, "sd1"),
        ("StableDiffusionPipeline", {"text_encoder": H}, "sd2"),
        ("StableDiffusionControlNetInpaintPipeline", {"text_encoder": L}, "sd1"),
        ("StableUnCLIPImg2ImgPipeline", {"text_encoder": H}, "sd2"),
        ("AnimateDiffPipeline", {"text_encoder": L}, "sd1"),
        ("AnimateDiffSDXLPipeline", BOTH, "sdxl"),
        ("StableDiffusionXLControlNetUnionImg2ImgPipeline", BOTH, "sdxl"),
        ("StableDiffusionXLImg2ImgPipeline", {"text_encoder_2": G}, "sdxl-refiner"),
        ("StableDiffusion3InpaintPipeline", BOTH, "sd3"),
        ("FluxKontextPipeline", {"text_encoder": L}, "flux"),
        ("StableCascadeDecoderPipeline", {"text_encoder": G}, "cascade"),
        ("UnCLIPImageVariationPipeline", {"text_encoder": L}, "unclip"),
        ("KandinskyV22PriorEmb2EmbPipeline", {"text_encoder": G}, "kandinsky2-prior"),
        ("KandinskyPriorPipeline", {"text_encoder": L}, "kandinsky2-prior"),
        ("StableVideoDiffusionPipeline", {}, "svd"),
    ],
)
def test_the_class_and_the_encoders_tell_the_family(
    name: str, encoders: dict[str, dict[str, Any]], family: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, name, encoders)
    assert recognise_family(folder).name == family
    check_family(FAMILIES[family], folder)
    check_family(FAMILIES["ip-adapter"], folder)  # it reads the image encoder of any pipeline


@pytest.mark.parametrize(
    ("name", "encoders"),
    [
        ("StableDiffusionLatentUpscalePipeline", {"text_encoder": L}),
        ("StableDiffusionImageVariationPipeline", {}),
        ("StableDiffusionXLPipeline", {}),
    ],
)
def test_an_unknown_pipeline_is_refused_and_the_families_named(
    name: str, encoders: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"no known family reads .* a {name}; .* sd1, sd2, sdxl"):
        conditioner(write(tmp_path, name, encoders))


@pytest.mark.parametrize(
    ("name", "reads"),
    [("Flux2Pipeline", "FLUX.2 reads Mistral 3"), ("PixArtAlphaPipeline", "PixArt reads T5")],
)
def test_a_pipeline_without_clip_is_refused_and_what_it_reads_named(
    name: str, reads: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"{reads}.*, not the text encoder of a CLIP"):
        conditioner(write(tmp_path, name, {"text_encoder": L}))


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no model_index\.json, .* sd1, sd2, sdxl"):
        conditioner(tmp_path)
    with pytest.raises(UnknownModelError, match=r"pass the folder of a diffusers pipeline, or"):
        conditioner(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r'or "\./sdxl" for a folder of that name'):
        conditioner("sdxl")


@pytest.mark.parametrize(
    ("name", "encoders", "asked", "right"),
    [
        ("StableDiffusionXLPipeline", BOTH, "sd1", "sdxl"),
        ("StableDiffusionPipeline", {"text_encoder": H}, "sd1", "sd2"),
        ("StableDiffusionPipeline", {"text_encoder": L}, "sd2", "sd1"),
        ("StableDiffusion3Pipeline", BOTH, "sdxl", "sd3"),
        ("FluxPipeline", {"text_encoder": L}, "sd1", "flux"),
    ],
)
def test_a_family_that_the_folder_contradicts_is_refused(
    name: str, encoders: dict[str, dict[str, Any]], asked: str, right: str, tmp_path: Path
) -> None:
    folder = write(tmp_path, name, encoders)
    with pytest.raises(
        ConfigError, match=f'encoders of "{right}", not of "{asked}"; pass "{right}"'
    ):
        conditioner(asked, folder)


def test_the_refiner_may_read_its_encoder_from_the_base(tmp_path: Path) -> None:
    check_family(FAMILIES["sdxl-refiner"], write(tmp_path, "StableDiffusionXLPipeline", BOTH))


@pytest.mark.parametrize("row", ["sd1", "sd2", "sdxl", "sdxl-refiner", "flux", "cascade"])
def test_a_folder_alone_is_enough(row: str) -> None:
    made = conditioner(pipelines.folder(row), any_size=True)
    assert made.family.name == row
    assert conditioner(f"{pipelines.folder(row)}", any_size=True).identity() == made.identity()


def test_every_listed_beginning_is_that_of_a_class_in_diffusers() -> None:
    classes = dir(peers.diffusers())
    for family in FAMILIES.values():
        for prefix in family.pipelines:
            assert any(name.startswith(prefix) and "Pipeline" in name for name in classes), prefix
