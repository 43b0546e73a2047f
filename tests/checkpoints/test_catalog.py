"""The catalog agrees with the tables of the installed open_clip."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ecliptic.checkpoints import catalog
from ecliptic.checkpoints.catalog import architecture, find, names
from ecliptic.checkpoints.hub.location import locate
from ecliptic.errors import UnknownModelError
from ecliptic.inputs import ImageSpec
from ecliptic.model import ClipConfig, ResNetConfig, ViTConfig
from tests import peers

# Families whose towers are other models: timm's, captioning, other tokenizers, other pooling.
OTHERS = re.compile(
    r"roberta|convnext|coca|EVA|SigLIP|CLIPA|nllb|MobileCLIP|ViTamin|PE-Core|worldwide|swin|mt5"
)
# open_clip points e32 to the repository of e31; timm names this one.
E32 = "timm/vit_base_patch16_plus_clip_240.laion400m_e32"


def read_released() -> dict[str, dict[str, Any]]:
    """open_clip's own table of the families we have: "ARCH/TAG" -> its fields."""
    table = peers.open_clip().pretrained._PRETRAINED
    return {
        f"{sizes}/{tag}": fields
        for sizes, tags in table.items()
        if not OTHERS.search(sizes) and not sizes.endswith("-quickgelu")
        for tag, fields in tags.items()
    }


def test_every_released_row_is_there_and_no_other() -> None:
    assert set(names()) == set(read_released())
    assert len(names()) == 70


@pytest.mark.parametrize("name", names())
def test_rows_equal_open_clip(name: str) -> None:
    row, wanted = find(name), read_released()[name]
    hub = E32 if name == "ViT-B-16-plus-240/laion400m_e32" else wanted["hf_hub"].rstrip("/")
    assert row.hub == hub
    assert row.activation == ("quick_gelu" if wanted.get("quick_gelu") else "gelu")
    assert row.image_spec == ImageSpec(
        size=read_model_config(row.architecture)["vision_cfg"]["image_size"],
        mean=wanted["mean"],
        std=wanted["std"],
        interpolation=wanted["interpolation"],
        resize=wanted["resize_mode"],
    )


def read_model_config(sizes: str) -> dict[str, Any]:
    folder = Path(peers.open_clip().__file__).parent / "model_configs"
    config: dict[str, Any] = json.loads((folder / f"{sizes}.json").read_text())
    return config


@pytest.mark.parametrize("sizes", catalog.architectures())
def test_sizes_equal_open_clip(sizes: str) -> None:
    config, wanted = architecture(sizes), read_model_config(sizes)
    vision, text = wanted["vision_cfg"], wanted["text_cfg"]
    assert config.embed == wanted["embed_dim"]
    assert config.image is not None
    assert config.text is not None
    assert (config.image.image_size, config.image.width) == (vision["image_size"], vision["width"])
    heads = vision["width"] // vision.get("head_width", 64)
    if isinstance(config.image, ResNetConfig):
        assert config.image.depths == tuple(vision["layers"])
        assert config.image.heads == vision["width"] * 32 // 64
    else:
        mlp = int(vision["width"] * vision.get("mlp_ratio", 4.0))
        assert (config.image.patch_size, config.image.depth) == (
            vision["patch_size"],
            vision["layers"],
        )
        assert (config.image.heads, config.image.mlp) == (heads, mlp)
    assert (config.text.vocabulary, config.text.context) == (49408, 77)
    assert (config.text.width, config.text.depth) == (text["width"], text["layers"])
    assert (config.text.heads, config.text.mlp) == (text["heads"], 4 * text["width"])
    assert vision.keys() <= {
        *("image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio")
    }
    assert text.keys() == {"context_length", "vocab_size", "width", "heads", "layers"}


@pytest.mark.parametrize(
    ("sizes", "heads", "mlp"),
    [("ViT-H-14", 16, 5120), ("ViT-g-14", 16, 6144), ("ViT-bigG-14", 16, 8192)],
)
def test_the_large_towers_have_wider_heads_than_64(sizes: str, heads: int, mlp: int) -> None:
    image = architecture(sizes).image
    assert isinstance(image, ViTConfig)
    assert (image.heads, image.mlp) == (heads, mlp)
    assert image.heads != image.width // 64


def activations(config: ClipConfig) -> set[str]:
    towers = (config.image, config.text)
    return {tower.activation for tower in towers if not isinstance(tower, ResNetConfig | None)}


def test_the_weights_decide_the_activation() -> None:
    for name in ("ViT-B-32/openai", "RN50/openai", "ViT-H-14-378/dfn5b", "ViT-L-14/dfn2b"):
        assert activations(architecture(name)) == {"quick_gelu"}
        assert find(name).config == architecture(name)
    for name in ("ViT-B-32/laion2b_s34b_b79k", "ViT-L-14/dfn2b_s39b", "ViT-B-16/laion400m_e32"):
        assert activations(architecture(name)) == {"gelu"}
    assert activations(architecture("ViT-B-32-quickgelu")) == {"quick_gelu"}
    assert activations(architecture("ViT-B-32")) == {"gelu"}


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("ViT-B-32-quickgelu/openai", "ViT-B-32/openai"),
        ("ViT-B-32/laion2b-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k"),
        ("ViT-B/32", "ViT-B-32/openai"),
        ("ViT-L/14@336px", "ViT-L-14-336/openai"),
        ("ViT-L-14@336px/openai", "ViT-L-14-336/openai"),
        ("ViT-L/14/openai", "ViT-L-14/openai"),
        ("RN50", "RN50/openai"),
        ("RN50x64", "RN50x64/openai"),
        ("ViT-B-32::laion2b_s34b_b79k", "ViT-B-32/laion2b_s34b_b79k"),
        ("ViT-B-16-quickgelu::openai", "ViT-B-16/openai"),
        ("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k"),
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B-32/laion2b_s34b_b79k"),
        ("laion/clip-vit-b-32-laion2b-s34b-b79k", "ViT-B-32/laion2b_s34b_b79k"),
        ("openai/clip-vit-base-patch32", "ViT-B-32/openai"),
        ("openai/clip-vit-base-patch16", "ViT-B-16/openai"),
        ("openai/clip-vit-large-patch14", "ViT-L-14/openai"),
        ("openai/clip-vit-large-patch14-336", "ViT-L-14-336/openai"),
        ("hf-hub:apple/DFN5B-CLIP-ViT-H-14-378", "ViT-H-14-378/dfn5b"),
        ("timm/vit_base_patch32_clip_224.openai", "ViT-B-32/openai"),
    ],
)
def test_other_spellings_find_the_same_row(spelling: str, name: str) -> None:
    assert find(spelling) is find(name)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("RN50-quickgelu", "'RN50/openai', 'RN50/yfcc15m', 'RN50/cc12m'"),
        ("DFN5B", "weights of that name are called 'ViT-H-14/dfn5b', 'ViT-H-14-378/dfn5b'."),
        ("laion2B-s34B-b79K", "weights of that name are called 'ViT-B-32/laion2b_s34b_b79k'."),
        ("ViT-B-32::openais", "'ViT-B-32/openai'"),
        ("ViT-L-14-336", "'ViT-L-14-336/openai'"),
        ("RN101/openais", "did you mean 'RN101/openai'?"),
        ("ViT-B-33/openai", "did you mean 'ViT-B-32/openai'"),
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", "trained with GELU"),
        ("nothing like it", "run `ecliptic models`"),
        ("", "run `ecliptic models`"),
    ],
)
def test_a_name_that_does_not_decide_is_refused_with_advice(name: str, advice: str) -> None:
    with pytest.raises(UnknownModelError, match=re.escape(advice)):
        find(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ViT-B-16-SigLIP/webli", "SigLIP"),
        ("google/siglip2-base-patch16-224", "SigLIP"),
        ("coca_ViT-B-32", "CoCa"),
        ("EVA02-B-16", "EVA-CLIP"),
        ("hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "BiomedCLIP"),
        ("convnext_base_w::laion2b_s13b_b82k", "a CLIP with a ConvNeXt image tower"),
        ("MobileCLIP-S1", "MobileCLIP"),
    ],
)
def test_models_with_other_towers_are_refused_by_their_name(name: str, kind: str) -> None:
    for refuse in (find, locate) if "::" in name or "/" in name else (find, architecture, locate):
        with pytest.raises(UnknownModelError, match=f"this is {kind}, which is not supported"):
            refuse(name)


def test_every_other_architecture_of_open_clip_is_refused_as_such() -> None:
    table = peers.open_clip().pretrained._PRETRAINED
    others = {sizes for sizes in table if OTHERS.search(sizes)}
    assert {sizes for sizes in others if not catalog.refuse_others(sizes)} == set()
    assert not any(map(catalog.refuse_others, names()))
    assert not any(catalog.refuse_others(find(name).hub) for name in names())


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UnknownModelError, match="did you mean 'ViT-H-14'"):
        architecture("ViT-H-15")


def test_listing_names_imports_no_torch() -> None:
    code = (
        "import sys, ecliptic.checkpoints.catalog as c; c.names(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
