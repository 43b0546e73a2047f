"""Released sizes with random weights: the same numbers as open_clip and transformers.

Each peer is built from its own table of sizes and initialised by its own code; norms and biases
are made random too. `-s` prints the differences that docs/benchmarks.md lists.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ecliptic.checkpoints import catalog, openai_keys
from ecliptic.checkpoints.layouts.transformers import TABLE
from ecliptic.model import ClipConfig, TwoTowers, build
from ecliptic.train.losses import InfoNCE
from tests import peers
from tests.runtime.lone import encode_image, encode_text
from tests.twins import check_gradients, check_relative, check_unit, gradients, outputs

pytestmark = pytest.mark.slow

BOTH, TEXT = ("image", "text"), ("text",)
OPEN_CLIP = [
    ("ViT-B-32-quickgelu", BOTH),
    ("ViT-B-16", BOTH),
    ("ViT-L-14", BOTH),
    ("RN50-quickgelu", BOTH),
    ("ViT-H-14", TEXT),
    ("ViT-bigG-14", TEXT),
]
# `config.json` of openai/clip-vit-base-patch32, -patch16 and openai/clip-vit-large-patch14 on the
# hub, as far as they differ from the defaults of transformers, which are those of the first.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "ViT-B-32-quickgelu": {"projection_dim": 512, "text_config": {}, "vision_config": {}},
    "ViT-B-16-quickgelu": {
        "projection_dim": 512,
        "text_config": {},
        "vision_config": {"patch_size": 16},
    },
    "ViT-L-14-quickgelu": {
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "patch_size": 14,
        },
    },
}
# The text towers of laion/CLIP-ViT-H-14-laion2B-s32B-b79K and CLIP-ViT-bigG-14-laion2B-39B-b160k.
TRANSFORMERS_TEXT: dict[str, dict[str, Any]] = {
    "ViT-H-14": {
        "projection_dim": 1024,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "hidden_act": "gelu",
    },
    "ViT-bigG-14": {
        "projection_dim": 1280,
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_attention_heads": 20,
        "num_hidden_layers": 32,
        "hidden_act": "gelu",
    },
}


@pytest.mark.parametrize(("name", "sides"), OPEN_CLIP)
@torch.no_grad()
def test_open_clip_computes_the_same(name: str, sides: tuple[str, ...]) -> None:
    sizes = catalog.architecture(name)
    config = replace(sizes, image=sizes.image if "image" in sides else None)
    peer = open_clip_towers(name, sides)
    model = assemble(config, openai_keys(config).to_native(open_clip_state(peer)).weights)
    differences, vectors = {}, {}
    if "text" in sides:
        tokens = captions(config)
        with outputs(peer["text"].transformer.resblocks) as hidden:
            vectors["text"] = peer["text"](tokens)
        differences |= compare_text(model, tokens, vectors["text"], hidden)
    if "image" in sides:
        pixels = images(config)
        with outputs(stages_of(peer["image"])) as hidden:
            vectors["image"] = peer["image"](pixels)
        differences |= compare_image(model, pixels, vectors["image"], hidden)
    if len(sides) == 2:
        image, text = (nn.functional.normalize(vectors[side]) for side in BOTH)
        differences["logits"] = check_relative(model(pixels, tokens), 100 * image @ text.T)
    show("open_clip", name, differences)


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_transformers_computes_the_same(name: str) -> None:
    library = peers.transformers()
    torch.manual_seed(0)
    peer = library.CLIPModel(library.CLIPConfig(**TRANSFORMERS[name])).eval()
    peer.logit_scale.fill_(torch.log(torch.tensor(100.0)))
    randomise(peer)
    config = catalog.architecture(name)
    model = assemble(config, TABLE.to_native(peer.state_dict()).weights)
    tokens, pixels = captions(config), images(config)
    wanted = peer(input_ids=tokens, pixel_values=pixels, output_hidden_states=True)
    text, image = wanted.text_model_output, wanted.vision_model_output
    differences = compare_text(model, tokens, wanted.text_embeds, text.hidden_states[1:])
    differences |= compare_image(model, pixels, wanted.image_embeds, image.hidden_states[1:])
    differences["logits"] = check_relative(model(pixels, tokens), wanted.logits_per_image)
    show("transformers", name, differences)


@pytest.mark.parametrize("name", TRANSFORMERS_TEXT)
@torch.no_grad()
def test_text_towers_of_transformers_compute_the_same(name: str) -> None:
    library = peers.transformers()
    torch.manual_seed(0)
    sizes = library.CLIPTextConfig(**TRANSFORMERS_TEXT[name])
    peer = library.CLIPTextModelWithProjection(sizes).eval()
    randomise(peer)
    config = replace(catalog.architecture(name), image=None)
    model = assemble(config, TABLE.to_native(peer.state_dict()).weights)
    tokens = captions(config)
    wanted = peer(input_ids=tokens, output_hidden_states=True)
    hidden = wanted.hidden_states[1:]
    show("transformers", name, compare_text(model, tokens, wanted.text_embeds, hidden))


def test_gradients_of_the_contrastive_loss_are_open_clips() -> None:
    name, pairs = "ViT-B-32", (3, 12, 40, 77)
    library = peers.open_clip()
    torch.manual_seed(0)
    peer = library.create_model(name).eval()
    with torch.no_grad():
        randomise(peer)
    config = catalog.architecture(name)
    table = openai_keys(config)
    model = assemble(config, table.to_native(peer.state_dict()).weights).requires_grad_(True)
    tokens, pixels = captions(config, pairs), images(config, len(pairs))
    vectors = model.encode_image(pixels), model.encode_text(tokens)
    unit = (F.normalize(v, dim=-1) for v in vectors)
    loss = InfoNCE()(*unit, model.logit_scale)
    wanted = library.ClipLoss()(*peer(pixels, tokens))
    torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-6)
    loss.backward()
    wanted.backward()
    worst = check_gradients(gradients(model), table.to_native(gradients(peer)).weights)
    show("open_clip", name, {"gradients": worst})


def compare_text(
    model: TwoTowers, tokens: Tensor, vectors: Tensor, hidden: list[Tensor]
) -> dict[str, float]:
    """Largest differences of unit vectors, on both paths, and of the hidden layers."""
    states = model.text_tower.states(tokens)
    return {
        "text": check_unit(model.encode_text(tokens), vectors),
        "text, fast": check_unit(encode_text(model.text_tower, tokens), vectors),
        "text layers": compare_layers(states.hidden[1:], hidden),
    }


def compare_image(
    model: TwoTowers, pixels: Tensor, vectors: Tensor, hidden: list[Tensor]
) -> dict[str, float]:
    """Largest differences of unit vectors, on both paths, and of the hidden layers."""
    states = model.image_tower.states(pixels)
    return {
        "image": check_unit(model.encode_image(pixels), vectors),
        "image, fast": check_unit(encode_image(model.image_tower, pixels), vectors),
        "image layers": compare_layers(states.hidden[1:], hidden),
    }


def compare_layers(found: tuple[Tensor, ...], wanted: list[Tensor]) -> float:
    pairs = enumerate(zip(found, wanted, strict=True), start=1)
    return max(check_relative(ours, theirs, f"layer {i}") for i, (ours, theirs) in pairs)


def open_clip_towers(name: str, sides: tuple[str, ...]) -> dict[str, nn.Module]:
    """open_clip's own towers of these sizes, randomly initialised, in eval mode."""
    library = peers.open_clip()
    sizes = library.get_model_config(name)
    quick, embed = sizes.get("quick_gelu", False), sizes["embed_dim"]
    torch.manual_seed(0)
    towers = {}
    if "image" in sides:
        towers["image"] = library.model._build_vision_tower(embed, sizes["vision_cfg"], quick)
    if "text" in sides:
        towers["text"] = library.model._build_text_tower(embed, sizes["text_cfg"], quick)
    for tower in towers.values():
        randomise(tower.eval())
    return towers


def open_clip_state(towers: dict[str, nn.Module]) -> dict[str, Tensor]:
    prefixes = {"image": "visual.", "text": ""}
    return {
        prefixes[side] + name: tensor
        for side, tower in towers.items()
        for name, tensor in tower.state_dict().items()
    }


def randomise(model: nn.Module) -> None:
    """Norms and biases start as ones and zeros, which would hide a swapped or missing one."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.copy_(1 + 0.1 * torch.randn(module.weight.shape, generator=generator))
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)


def assemble(config: ClipConfig, weights: Mapping[str, Tensor]) -> TwoTowers:
    """Build our towers with the peer's own tensors."""
    model = build(config)
    scale = {"logit_scale": torch.log(torch.tensor(100.0))}
    model.load_state_dict({**scale, **weights}, strict=True, assign=True)
    return model


def captions(config: ClipConfig, lengths: tuple[int, ...] = (3, 12, 77)) -> Tensor:
    """(B, 77) ids: by default a short text, a caption, a full context; padded with 0."""
    assert config.text
    text, tokens = config.text, torch.zeros(len(lengths), config.text.context, dtype=torch.long)
    generator = torch.Generator().manual_seed(2)
    for row, length in enumerate(lengths):
        words = torch.randint(300, text.end_of_text - 1, (length - 2,), generator=generator)
        tokens[row, :length] = torch.tensor([text.end_of_text - 1, *words, text.end_of_text])
    return tokens


def images(config: ClipConfig, count: int = 2) -> Tensor:
    """(B, 3, S, S) pixels: smooth shapes with noise, as bright as in real images."""
    assert config.image
    generator, size = torch.Generator().manual_seed(3), config.image.image_size
    smooth = torch.randn(count, 3, 7, 7, generator=generator)
    noise = torch.randn(count, 3, size, size, generator=generator)
    return nn.functional.interpolate(smooth, size=size, mode="bicubic") + 0.2 * noise


def stages_of(visual: Any) -> Any:
    if hasattr(visual, "attnpool"):
        return [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
    return visual.transformer.resblocks


def show(peer: str, name: str, differences: dict[str, float]) -> None:
    cells = ", ".join(f"{what} {value:.1e}" for what, value in differences.items())
    print(f"\n{name} against {peer}: {cells}")
