"""Tiny random diffusers pipelines of every family, and the same encoders as folders for ours.

`encoder` writes one encoder as released ones are written: pad token, legacy `eos_token_id` 2, the
real vocabulary. `peer` puts encoders into the family's own pipeline class, without a denoiser,
since no `encode_prompt` needs one; `folder` is that pipeline saved by diffusers itself.
"""

import atexit
import json
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, write
from ecliptic.checkpoints.identity.conform import native_shapes
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig, TextConfig, ViTConfig
from tests import peers

PARITY = 2e-5  # max abs difference to the pipelines
T5_WIDTH = 112  # wider than L and G together, as 4096 is; SD3 pads its CLIP channels up to it
_END, _BANG = "<|endoftext|>", "!"
_L = TextConfig(width=32, depth=5, heads=4, mlp=64, activation="quick_gelu")
_G = TextConfig(width=40, depth=5, heads=5, mlp=96, activation="gelu")
_VISION = ViTConfig(image_size=32, patch_size=8, width=48, depth=3, heads=4, mlp=96)


@dataclass(frozen=True)
class Encoder:
    """One encoder: its sizes, its pad token, and the seed of its weights."""

    config: ClipConfig
    pad: str = _END
    seed: int = 0
    identity: bool = False  # the projection does nothing, as in single files of SD3


def _text(text: TextConfig, embed: int | None = None, **row: Any) -> Encoder:
    """A text encoder; without `embed`, one without a projection."""
    text = replace(text, projection=embed is not None)
    return Encoder(ClipConfig(embed=embed or text.width, image=None, text=text), **row)


ENCODERS = {
    "l": _text(_L),
    "h": _text(_G, pad=_BANG, seed=1),  # SD2: its last layer is gone and its projection unused
    "g": _text(_G, 36, pad=_BANG, seed=2),
    "l-identity": _text(_L, _L.width, seed=3, identity=True),
    "l-projected": _text(_L, 28, seed=4),
    # Stable Cascade and Kandinsky 2.2 pad with the end of text; the prior needs equal widths.
    "g-end": _text(_G, _G.width, seed=5),
    # LongCLIP, and HiDream: long contexts, of which its pipeline uses 128 tokens
    "l-long": _text(replace(_L, context=248), 28, seed=15),
    "g-long": _text(replace(_G, context=218), 36, pad=_BANG, seed=16),
    "vision": Encoder(ClipConfig(embed=24, image=_VISION, text=None), seed=6),
    "vision-224": Encoder(
        ClipConfig(embed=24, image=replace(_VISION, image_size=224, patch_size=56), text=None),
        seed=7,
    ),
}


@dataclass(frozen=True)
class Pipeline:
    """A pipeline class, and which encoder each of its arguments is."""

    home: str  # module under diffusers.pipelines
    name: str  # class
    text: dict[str, str]  # argument -> encoder; tokenizers follow
    image: str = ""  # encoder
    t5: str = ""  # argument
    options: tuple[tuple[str, Any], ...] = ()
    extractor: str = "feature_extractor"
    denoiser: bool = False  # make one, since another part reads its sizes


_XL = {"text_encoder": "l", "text_encoder_2": "g"}
_SD, _CASCADE, _UNCLIP = "stable_diffusion", "stable_cascade", "deprecated.unclip"
_NONE, _SVD = (("requires_safety_checker", False),), "stable_video_diffusion"
PIPELINES = {
    "sd1": Pipeline(_SD, "StableDiffusionPipeline", {"text_encoder": "l"}, options=_NONE),
    "sd2": Pipeline(_SD, "StableDiffusionPipeline", {"text_encoder": "h"}, options=_NONE),
    "sdxl": Pipeline("stable_diffusion_xl", "StableDiffusionXLPipeline", _XL),
    "sdxl-unforced": Pipeline(
        "stable_diffusion_xl",
        "StableDiffusionXLPipeline",
        _XL,
        options=(("force_zeros_for_empty_prompt", False),),
    ),
    "sdxl-refiner": Pipeline(
        "stable_diffusion_xl",
        "StableDiffusionXLImg2ImgPipeline",
        {"text_encoder_2": "g"},
        options=(("requires_aesthetics_score", True), ("force_zeros_for_empty_prompt", False)),
    ),
    "sd3": Pipeline(
        "stable_diffusion_3",
        "StableDiffusion3Pipeline",
        {"text_encoder": "l-identity", "text_encoder_2": "g"},
        t5="text_encoder_3",
    ),
    "sd3-without-t5": Pipeline(
        "stable_diffusion_3",
        "StableDiffusion3Pipeline",
        {"text_encoder": "l-identity", "text_encoder_2": "g"},
        denoiser=True,  # says how wide the zeros in T5's place are
    ),
    "sd3-projected": Pipeline(
        "stable_diffusion_3",
        "StableDiffusion3Pipeline",
        {"text_encoder": "l-projected", "text_encoder_2": "g"},
        t5="text_encoder_3",
    ),
    "flux": Pipeline("flux", "FluxPipeline", {"text_encoder": "l"}, t5="text_encoder_2"),
    "cascade": Pipeline(_CASCADE, "StableCascadePriorPipeline", {"text_encoder": "g-end"}),
    "unclip": Pipeline(_UNCLIP, "UnCLIPPipeline", {"text_encoder": "l-projected"}),
    "kandinsky2-prior": Pipeline(
        "kandinsky2_2",
        "KandinskyV22PriorPipeline",
        {"text_encoder": "g-end"},
        image="vision",
        extractor="image_processor",
    ),
    "kandinsky21-prior": Pipeline(
        "kandinsky",
        "KandinskyPriorPipeline",
        {"text_encoder": "l-projected"},
        image="vision",
        extractor="image_processor",
    ),
    "kandinsky5": Pipeline("kandinsky5", "Kandinsky5T2IPipeline", {"text_encoder_2": "l"}),
    "kandinsky5-video": Pipeline("kandinsky5", "Kandinsky5T2VPipeline", {"text_encoder_2": "l"}),
    "hunyuan-video": Pipeline("hunyuan_video", "HunyuanVideoPipeline", {"text_encoder_2": "l"}),
    "hidream": Pipeline(
        "hidream_image",
        "HiDreamImagePipeline",
        {"text_encoder": "l-long", "text_encoder_2": "g-long"},
    ),
    "wan-i2v": Pipeline(
        "wan", "WanImageToVideoPipeline", {}, image="vision", extractor="image_processor"
    ),
    "svd": Pipeline(_SVD, "StableVideoDiffusionPipeline", {}, image="vision-224"),
    "ip-adapter": Pipeline(
        _SD, "StableDiffusionPipeline", {"text_encoder": "l"}, image="vision", options=_NONE
    ),
    "ip-adapter-alone": Pipeline(_SD, "StableDiffusionPipeline", {}, image="vision", options=_NONE),
}


@contextmanager
def quiet() -> Iterator[None]:
    """Ignore the warnings of peers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@cache
def encoder(kind: str) -> Path:
    """A folder of `ENCODERS[kind]` with tokenizer or image processor, that both sides read."""
    row, path = ENCODERS[kind], room() / "encoders" / kind
    write(checkpoint(kind), path, "transformers")
    if row.config.text:
        _edit(path / "config.json", bos_token_id=0, eos_token_id=2, pad_token_id=1)
        _edit(path / "tokenizer_config.json", pad_token=row.pad, ecliptic_pad_id=None)
        _edit(path / "special_tokens_map.json", pad_token=row.pad)
    return path


def encoders(family: str) -> list[Path]:
    """The encoders of a family, in the order of its pipeline."""
    row = PIPELINES[family]
    return [encoder(kind) for kind in (*row.text.values(), *([row.image] if row.image else []))]


@cache
def peer(family: str) -> Any:
    """The family's diffusers pipeline; it has encoders and tokenizers, all else is None."""
    row = PIPELINES[family]
    parts: dict[str, Any] = {}
    for argument, kind in row.text.items():
        parts[argument] = text_model(kind)
        parts[argument.replace("text_encoder", "tokenizer")] = tokenizer(kind)
    if row.image:
        parts |= {"image_encoder": vision_model(row.image), row.extractor: processor(row.image)}
    if row.t5:
        parts |= {row.t5: _t5(), row.t5.replace("text_encoder", "tokenizer"): _t5_tokenizer()}
    if row.denoiser:
        parts["transformer"] = sd3_transformer()
    peers.diffusers()
    with quiet():
        made = getattr(import_module(f"diffusers.pipelines.{row.home}"), row.name)
        return made(**dict.fromkeys(arguments(made)) | parts | dict(row.options))


@cache
def folder(family: str) -> Path:
    """The same pipeline as diffusers saves it: `model_index.json` and a folder for each part."""
    path = room() / "pipelines" / family
    with quiet():
        peer(family).save_pretrained(path)
    return path


@cache
def text_model(kind: str) -> Any:
    """The text encoder in transformers, with the `.text_model` that diffusers 0.42 still reads.

    transformers 5.6 took it from CLIPTextModel, so clip_skip of SD 1 and 2 would raise
    AttributeError (diffusers issue 14124).
    """
    name = "CLIPTextModel"
    if ENCODERS[kind].config.text.projection:  # type: ignore[union-attr]
        name = "CLIPTextModelWithProjection"
    model = getattr(peers.transformers(), name).from_pretrained(encoder(kind)).eval()
    if not hasattr(model, "text_model"):
        model.__dict__["text_model"] = model  # not by nn.Module, which would make it its own child
    return model


@cache
def vision_model(kind: str) -> Any:
    """The image encoder in transformers."""
    library = peers.transformers()
    return library.CLIPVisionModelWithProjection.from_pretrained(encoder(kind)).eval()


@cache
def tokenizer(kind: str) -> Any:
    """The tokenizer beside an encoder, in transformers."""
    return peers.transformers().CLIPTokenizer.from_pretrained(encoder(kind))


@cache
def processor(kind: str) -> Any:
    """The image processor beside an encoder, in transformers; the PIL version, like ours."""
    return peers.transformers().CLIPImageProcessorPil.from_pretrained(encoder(kind))


@cache
def checkpoint(kind: str) -> Checkpoint:
    """The weights of `ENCODERS[kind]`; do not change them, they are shared."""
    row = ENCODERS[kind]
    config, generator = row.config, torch.Generator().manual_seed(row.seed)
    weights = {
        name: _random(name, tuple(shape), generator)
        for name, shape in native_shapes(config).items()
    }
    if row.identity:
        weights["text.projection"] = torch.eye(config.embed)
    size = config.image.image_size if config.image else 0
    return Checkpoint(
        config=config,
        weights=weights,
        image_spec=ImageSpec(size=size) if size else None,
        tokenizer_spec=TokenizerSpec(context=config.text.context) if config.text else None,
    )


def _random(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random norms and biases too, so that a swapped or forgotten tensor changes the output."""
    values: Tensor = torch.randn(shape, generator=generator)
    if len(shape) < 2:
        return float("weight" in name) + 0.1 * values
    fan = shape[0] if name.endswith("projection") else values[0].numel()
    return values.mul(fan**-0.5)


@cache
def _t5() -> Any:
    library = peers.transformers()
    sizes = {"d_model": T5_WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    torch.manual_seed(8)
    return library.T5EncoderModel(library.T5Config(vocab_size=200, **sizes)).eval()


@cache
def _t5_tokenizer() -> Any:
    """One token for each character, since T5's own vocabulary is not compared."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -1.0)]
    pieces += [(chr(code), -1.0) for code in range(33, 127)]
    with quiet():
        return peers.transformers().T5TokenizerFast(vocab=pieces, extra_ids=0)


@contextmanager
def with_unet(family: str, unet: Any) -> Iterator[Any]:
    """The peer with a UNet, for methods that check its sizes."""
    pipe = peer(family)
    pipe.unet = unet
    try:
        yield pipe
    finally:
        pipe.unet = None


@cache
def video_unet() -> Any:
    """A UNet that takes SVD's three numbers."""
    torch.manual_seed(11)
    return peers.diffusers().UNetSpatioTemporalConditionModel(
        block_out_channels=(32, 32),
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        layers_per_block=1,
        num_attention_heads=(2, 2),
        cross_attention_dim=24,
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=48,
        sample_size=8,
    )


@cache
def xl_unet(numbers: int, width: int = 72) -> Any:
    """A UNet that takes SDXL's size ids, `numbers` of them, in sinusoids of 16."""
    sizes = {"block_out_channels": (8, 8), "norm_num_groups": 4, "sample_size": 8}
    down = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
    up = {"up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}
    blocks = {"layers_per_block": 1, "attention_head_dim": 4, "cross_attention_dim": width}
    added = {"addition_embed_type": "text_time", "addition_time_embed_dim": 16}
    torch.manual_seed(9)
    return peers.diffusers().UNet2DConditionModel(
        **sizes,
        **down,
        **up,
        **blocks,
        **added,
        projection_class_embeddings_input_dim=ENCODERS["g"].config.embed + 16 * numbers,
    )


@cache
def prior() -> Any:
    """A prior that reads what the encoder "g-end" gives."""
    config = ENCODERS["g-end"].config
    assert config.text
    torch.manual_seed(12)
    return peers.diffusers().PriorTransformer(
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        embedding_dim=config.embed,
        num_embeddings=config.text.context,
        additional_embeddings=4,
    )


@cache
def sd3_transformer() -> Any:
    """A transformer that reads what the encoders of SD3 give."""
    pooled = ENCODERS["l-identity"].config.embed + ENCODERS["g"].config.embed
    torch.manual_seed(10)
    return peers.diffusers().SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=pooled,
    )


def arguments(made: Any) -> list[str]:
    """What the pipeline class needs: the arguments of its `__init__` without a default."""
    names, optional = made._get_signature_keys(made)
    return sorted(set(names) - set(optional) - {"self"})


def _edit(path: Path, **values: Any) -> None:
    """Change values in a JSON file; None removes one."""
    held = json.loads(path.read_text(encoding="utf-8")) | values
    path.write_text(json.dumps({k: v for k, v in held.items() if v is not None}), encoding="utf-8")


@cache
def room() -> Path:
    """The folder of all files that are written here; it is removed when the tests end."""
    path = Path(tempfile.mkdtemp(prefix="ecliptic-pipelines-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
