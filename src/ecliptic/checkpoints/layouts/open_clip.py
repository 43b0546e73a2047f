"""open_clip's layout: a bare or nested state dict, or a folder with `open_clip_config.json`.

Names are OpenAI's; with `custom_text` the names of the text tower have the prefix `text.`.
A folder states everything but the padding, which we put into the unused `text_cfg.pad_id`.
Source: open_clip 3.3 model.py `CLIPVisionCfg`, `CLIPTextCfg`, factory.py, push_to_hf_hub.py.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast, get_args

from torch import Tensor

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.fields import Fields
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.layouts import openai
from ecliptic.checkpoints.layouts.writing import (
    check_obstacles,
    json_writer,
    tensor_writer,
    write_files,
)
from ecliptic.checkpoints.source import Source
from ecliptic.inputs import ImageSpec, Interpolation, Resize, TokenizerSpec
from ecliptic.model import Activation, ClipConfig, ImageConfig, ResNetConfig, TextConfig, ViTConfig

NAME = "open_clip"
CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
# open_clip/factory.py `_find_checkpoint_in_dir`: these names, in this order.
OWN_WEIGHTS = (WEIGHTS, "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin")
ANY_WEIGHTS = (*OWN_WEIGHTS, "model.safetensors", "pytorch_model.bin")
MARKS = ("visual.conv1.weight", "token_embedding.weight", "text.token_embedding.weight")

# Fields that change what a tower computes, and the only value that ecliptic supports.
_NEUTRAL = {
    "attentional_pool": False,
    "embed_cls": False,
    "final_ln_after_pool": False,
    "hf_model_name": None,
    "ls_init_value": None,
    "no_causal_mask": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "proj_bias": False,
    "qk_norm": False,
    "scale_attn": False,
    "scale_attn_inner": False,
    "scale_fc": False,
    "scale_heads": False,
    "scaled_cosine_attn": False,
    "timm_model_name": None,
}


def matches(source: Source) -> bool:
    """Whether this is a folder of open_clip, or a file with its names."""
    if not source.folder:
        return any(name in source.open().tensors for name in MARKS)
    if CONFIG not in source.files:
        return False
    return bool(source.first(*OWN_WEIGHTS)) or "config.json" not in source.files


def read(source: Source, hints: Hints) -> Checkpoint:
    """Read the model; a file without config is identified from its tensors and `hints`."""
    stated = Stated()
    name = None
    if source.folder:
        stated = _read_config(Fields(source.json(CONFIG), str(source.path / CONFIG)))
        name = source.find_weights(CONFIG, ANY_WEIGHTS)
    tensors = remove_prefixes(source.open(name).tensors)
    table = openai.choose_table(tensors)
    return assemble(tensors, table, stated, hints, layout=NAME, what=str(source.path))


def write(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a folder for `open_clip.create_model_from_pretrained("local-dir:...")`.

    Raises:
        UnsupportedLayoutError: one tower only, or a setting that its config has no field for.
    """
    check_obstacles(NAME, _list_obstacles(checkpoint))
    table = openai.openai_keys(checkpoint.config)
    weights = tensor_writer(table.from_native(checkpoint.weights))
    spec, tokens = cast(ImageSpec, checkpoint.image_spec), checkpoint.tokenizer_spec
    preprocess = {
        "mean": list(spec.mean),
        "std": list(spec.std),
        "interpolation": spec.interpolation,
        "resize_mode": spec.resize,
    }
    config = {
        "model_cfg": open_clip_config(checkpoint.config, tokens.pad if tokens else 0),
        "preprocess_cfg": preprocess,
    }
    write_files(path, {WEIGHTS: weights, CONFIG: json_writer(config)}, overwrite=overwrite)
    return ()


def remove_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix `text.` of CustomTextCLIP from the names."""
    return {name.removeprefix("text."): tensor for name, tensor in tensors.items()}


def _read_config(config: Fields) -> Stated:
    model = config.table("model_cfg")
    vision, text = model.table("vision_cfg"), model.table("text_cfg")
    _refuse_unknown(model, vision, text)
    activation: Activation = "quick_gelu" if model.get("quick_gelu", False) else "gelu"
    image = _read_image_config(vision, activation)
    text_config = _read_text_config(text, activation)
    return Stated(
        config=ClipConfig(embed=model.get("embed_dim", 512), image=image, text=text_config),
        image_spec=_read_image_spec(config.table("preprocess_cfg"), image.image_size),
        tokenizer_spec=TokenizerSpec(context=text_config.context, pad=text.get("pad_id", 0)),
    )


def _read_image_config(vision: Fields, activation: Activation) -> ImageConfig:
    size, width = vision.square("image_size", 224), vision.get("width", 768)
    head_width = vision.count("head_width", 64)
    if isinstance(vision.values.get("layers"), list):
        depths = tuple(vision.get("layers", [3, 4, 6, 3]))
        if len(depths) != 4:
            vision.refuse("layers", "four stages")
        return ResNetConfig(size, width, depths, heads=width * 32 // head_width)
    return ViTConfig(
        image_size=size,
        patch_size=vision.square("patch_size", 16),
        width=width,
        depth=vision.get("layers", 12),
        heads=width // head_width,
        mlp=_read_mlp(width, vision),
        activation=activation,
        eps=_read_eps(vision),
    )


def _read_text_config(text: Fields, activation: Activation) -> TextConfig:
    width, vocabulary = text.get("width", 512), text.get("vocab_size", 49408)
    return TextConfig(
        vocabulary=vocabulary,
        context=text.get("context_length", 77),
        width=width,
        depth=text.get("layers", 12),
        heads=text.get("heads", 8),
        mlp=_read_mlp(width, text),
        activation=activation,
        eps=_read_eps(text),
        end_of_text=min(vocabulary, TokenizerSpec().vocabulary) - 1,
        projection=text.get("proj_type", "linear") != "none",
    )


def _read_mlp(width: int, tower: Fields) -> int:
    """`int(width * mlp_ratio)`, as open_clip computes it."""
    mlp = width * tower.get("mlp_ratio", 4.0)
    return int(mlp) if abs(mlp) < 1 << 62 else tower.refuse_damaged("mlp_ratio", "a width ratio")


def _read_eps(tower: Fields) -> float:
    return tower.table("norm_kwargs").get("eps", 1e-5)


def _read_image_spec(preprocess: Fields, size: int) -> ImageSpec:
    default = ImageSpec(size=size)  # open_clip uses the model's size, not the file's
    interpolation = preprocess.get("interpolation", str(default.interpolation))
    resize = preprocess.get("resize_mode", str(default.resize))
    if interpolation not in get_args(Interpolation):
        preprocess.refuse("interpolation", " or ".join(get_args(Interpolation)))
    if resize not in get_args(Resize):
        preprocess.refuse("resize_mode", " or ".join(get_args(Resize)))
    return ImageSpec(
        size=size,
        mean=preprocess.triple("mean", default.mean),
        std=preprocess.triple("std", default.std),
        interpolation=cast(Interpolation, interpolation),
        resize=cast(Resize, resize),
    )


def _refuse_unknown(model: Fields, vision: Fields, text: Fields) -> None:
    """Refuse a field that asks for something that the towers do not compute."""
    if "multimodal_cfg" in model.values:
        model.refuse("multimodal_cfg", "a model of two towers without it")
    if text.values.get("hf_tokenizer_name"):
        text.refuse("hf_tokenizer_name", "the reference tokenizer")
    for tower, pool in ((vision, "tok"), (text, "argmax")):
        for name, neutral in _NEUTRAL.items():
            if name in tower.values and tower.values[name] != neutral:
                tower.refuse(name, repr(neutral))
        if tower.get("pool_type", pool) != pool:
            tower.refuse("pool_type", repr(pool))
        if tower.values.get("act_kwargs"):
            tower.refuse("act_kwargs", "plain QuickGELU or GELU")


def open_clip_config(config: ClipConfig, pad: int = 0) -> dict[str, Any]:
    """The sizes of two towers as in open_clip's model_configs; `pad` is the id after a text."""
    text = cast(TextConfig, config.text)
    text_cfg: dict[str, Any] = {
        "context_length": text.context,
        "vocab_size": text.vocabulary,
        "width": text.width,
        "heads": text.heads,
        "layers": text.depth,
        "mlp_ratio": mlp_ratio(text.width, text.mlp),
        "pad_id": pad,
        **_make_norm_kwargs(text.eps),
    }
    if not text.projection:
        text_cfg["proj_type"] = "none"
    return {
        "embed_dim": config.embed,
        "quick_gelu": text.activation == "quick_gelu",
        "vision_cfg": _make_vision_cfg(cast(ImageConfig, config.image)),
        "text_cfg": text_cfg,
    }


def _make_vision_cfg(image: ImageConfig) -> dict[str, Any]:
    if isinstance(image, ResNetConfig):
        check_obstacles(NAME, openai.list_block_obstacles(image))
        return {
            "image_size": image.image_size,
            "layers": list(image.depths),
            "width": image.width,
            "head_width": image.features // image.heads,
            "patch_size": None,
        }
    return {
        "image_size": image.image_size,
        "layers": image.depth,
        "width": image.width,
        "head_width": image.width // image.heads,
        "mlp_ratio": mlp_ratio(image.width, image.mlp),
        "patch_size": image.patch_size,
        **_make_norm_kwargs(image.eps),
    }


def _make_norm_kwargs(eps: float) -> dict[str, Any]:
    return {} if eps == 1e-5 else {"norm_kwargs": {"eps": eps}}


def mlp_ratio(width: int, mlp: int) -> float:
    """A ratio for which open_clip's `int(width * ratio)` is `mlp` exactly."""
    ratio = mlp / width
    return ratio if int(width * ratio) == mlp else (mlp + 0.5) / width


def _list_obstacles(checkpoint: Checkpoint) -> Iterator[str]:
    image, text, spec = checkpoint.config.image, checkpoint.config.text, checkpoint.image_spec
    if image is None or text is None:
        yield "its models have two towers, this model has one"
        return
    if isinstance(image, ViTConfig) and image.activation != text.activation:
        yield f"it has one activation, the towers use {image.activation} and {text.activation}"
    yield from openai.list_block_obstacles(image)
    if spec and spec.size != image.image_size:
        yield f"its images have the tower's size of {image.image_size} pixels, not {spec.size}"
    yield from openai.list_tokenizer_obstacles(checkpoint)
