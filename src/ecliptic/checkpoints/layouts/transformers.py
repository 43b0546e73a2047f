"""Hugging Face's layout: `config.json` beside `model.safetensors`, whole, sharded or pickled.

CLIPModel, CLIPTextModel, CLIPTextModelWithProjection and CLIPVisionModelWithProjection, under
the names of every version: with `position_ids` buffers (before 4.31) and without the
`text_model.` prefix (CLIPTextModel since 5.6). Source: transformers configuration_clip.py,
modeling_clip.py. `transformers_inputs` does the tokenizer's and the image processor's files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.fields import Fields
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.key_tables import KeyTable, Rule
from ecliptic.checkpoints.layouts import transformers_inputs as inputs
from ecliptic.checkpoints.layouts.writing import (
    check_obstacles,
    json_writer,
    tensor_writer,
    write_files,
)
from ecliptic.checkpoints.source import Source
from ecliptic.errors import UnsupportedLayoutError
from ecliptic.inputs import TokenizerSpec
from ecliptic.model import ClipConfig, ResNetConfig, TextConfig, ViTConfig

NAME = "transformers"
CONFIG, WEIGHTS = "config.json", "model.safetensors"
ANY_WEIGHTS = (
    WEIGHTS,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.fp16.safetensors",
    "model.bf16.safetensors",
    "pytorch_model.fp16.bin",
)
# model_type -> its towers; only "clip" has a table of its own for each.
TOWERS = {
    "clip": ("text", "image"),
    "clip_text_model": ("text",),
    "clip_vision_model": ("image",),
}
# Their field -> ours: of both towers, and of the text tower.
FIELDS = {
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp",
    "hidden_act": "activation",
    "layer_norm_eps": "eps",
}
TEXT_FIELDS = {"vocab_size": "vocabulary", "max_position_embeddings": "context", **FIELDS}
# The defaults of CLIPTextConfig and CLIPVisionConfig.
TEXT, IMAGE = TextConfig(activation="quick_gelu"), ViTConfig(activation="quick_gelu")
# Assumed for a file without config: padding as Hugging Face does it.
BARE = Stated(
    pad=TokenizerSpec().end_of_text,
    notes=("no tokenizer beside the weights; padded with the end of text, as Hugging Face does",),
)
LEGACY_END = 2  # `eos_token_id` of configs written before transformers 4.31; wrong for CLIP
TEXT_MARK, IMAGE_MARK = "embeddings.token_embedding.weight", "embeddings.patch_embedding.weight"


def _tower_rules(ours: str, theirs: str, first: str, last: str) -> list[Rule]:
    block, layer = f"{ours}.blocks.#", f"{theirs}.encoder.layers.#"
    attention = f"{layer}.self_attn"
    return [
        *([Rule(f"{ours}.ln_pre.*", f"{theirs}.{first}.*")] if first else []),
        Rule(f"{block}.ln_1.*", f"{layer}.layer_norm1.*"),
        Rule(
            f"{block}.attention.qkv.*",
            (f"{attention}.q_proj.*", f"{attention}.k_proj.*", f"{attention}.v_proj.*"),
        ),
        Rule(f"{block}.attention.out.*", f"{attention}.out_proj.*"),
        Rule(f"{block}.ln_2.*", f"{layer}.layer_norm2.*"),
        Rule(f"{block}.mlp.up.*", f"{layer}.mlp.fc1.*"),
        Rule(f"{block}.mlp.down.*", f"{layer}.mlp.fc2.*"),
        Rule(f"{ours}.{'ln_post' if first else 'ln_final'}.*", f"{theirs}.{last}.*"),
    ]


TABLE = KeyTable(
    (
        Rule("logit_scale", "logit_scale"),
        Rule("text.token_embedding.weight", f"text_model.{TEXT_MARK}"),
        Rule("text.positions", "text_model.embeddings.position_embedding.weight"),
        *_tower_rules("text", "text_model", "", "final_layer_norm"),
        Rule("text.projection", "text_projection.weight", transposed=True),
        Rule("image.class_token", "vision_model.embeddings.class_embedding"),
        Rule("image.patch.weight", f"vision_model.{IMAGE_MARK}"),
        Rule("image.positions", "vision_model.embeddings.position_embedding.weight"),
        *_tower_rules("image", "vision_model", "pre_layrnorm", "post_layernorm"),  # their spelling
        Rule("image.projection", "visual_projection.weight", transposed=True),
    ),
    dropped=("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"),
)


def matches(source: Source) -> bool:
    """Whether this is a folder with a CLIP `config.json`, or a file with Hugging Face's names."""
    if source.folder:
        return source.json(CONFIG).get("model_type") in list(TOWERS)  # not hashed: may be a list
    return any(name.endswith((TEXT_MARK, IMAGE_MARK)) for name in source.open().tensors)


def read(
    source: Source,
    hints: Hints,
    *,
    tokenizer: Source | None = None,
    images: Source | None = None,
    layout: str = NAME,
) -> Checkpoint:
    """Read the model of a folder, or of a file without config that `hints` complete.

    Args:
        source: the folder or file.
        hints: the settings from the caller or the catalog.
        tokenizer: the folder of the tokenizer's files, if another than `source`.
        images: the folder of the image processor's file, if another than `source`.
        layout: for `Checkpoint.layout`.
    """
    if source.folder:
        state = source.open(source.find_weights(CONFIG, ANY_WEIGHTS))
        stated = _read_config(source, state.tensors, tokenizer or source, images or source)
    else:
        state, stated = source.open(), BARE
    tensors = add_prefixes(state.tensors)
    return assemble(tensors, TABLE, stated, hints, layout=layout, what=str(source.path))


def write(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a folder for `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained`.

    Raises:
        UnsupportedLayoutError: a ResNet, or two towers of which one has no projection.
    """
    check_obstacles(NAME, _list_obstacles(checkpoint))
    writers = {WEIGHTS: tensor_writer(TABLE.from_native(checkpoint.weights))}
    if checkpoint.tokenizer_spec:
        writers |= inputs.tokenizer_writers(checkpoint.tokenizer_spec)
    if checkpoint.image_spec:
        writers |= inputs.image_writers(checkpoint.image_spec)
    writers[CONFIG] = json_writer(_make_config(checkpoint))
    write_files(path, writers, overwrite=overwrite)
    return ()


def transformers_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename native weights to those of transformers' models; the tensors share memory."""
    return TABLE.from_native(weights)


def add_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add the tower's prefix to the names; CLIPTextModel has none since transformers 5.6."""
    for mark, prefix in ((TEXT_MARK, "text_model."), (IMAGE_MARK, "vision_model.")):
        if mark in tensors:
            parts = ("embeddings.", "encoder.", "pre_", "post_", "final_")
            return {
                prefix + name if name.startswith(parts) else name: tensor
                for name, tensor in tensors.items()
            }
    return dict(tensors)


def _read_config(
    source: Source, tensors: Mapping[str, Tensor], tokenizer: Source, images: Source
) -> Stated:
    config = Fields(source.json(CONFIG), str(source.path / CONFIG))
    towers = TOWERS[config.values["model_type"]]
    text = image = None
    notes: list[str] = []
    spec = None
    if "text" in towers:
        fields = find_tower(config, "text_config")
        spec = inputs.read_tokenizer(tokenizer, fields.get("max_position_embeddings", 77), notes)
        text = _read_text_config(fields, spec, "text_projection.weight" in tensors, notes)
    if "image" in towers:
        image = read_image_config(find_tower(config, "vision_config"))
        if "visual_projection.weight" not in tensors:
            raise UnsupportedLayoutError(
                f"{source.path} is an image encoder without its projection (CLIPVisionModel), so "
                "it gives no vectors; use CLIPModel or CLIPVisionModelWithProjection."
            )
    embed = config.get("projection_dim", 512)
    if text and not text.projection:
        embed = text.width
    return Stated(
        config=ClipConfig(embed=embed, image=image, text=text),
        image_spec=inputs.read_image_spec(images, image.image_size) if image else None,
        tokenizer_spec=spec if inputs.has_tokenizer(tokenizer) else None,
        pad=spec.pad if spec else 0,
        notes=tuple(notes),
    )


def find_tower(config: Fields, name: str) -> Fields:
    """A tower's table; the older `text_config_dict` wins, as in configuration_clip.py."""
    if config.values.get("model_type", "clip") != "clip":
        return config
    old = f"{name}_dict"
    return config.table(old if config.values.get(old) is not None else name)


def _read_text_config(
    fields: Fields, spec: TokenizerSpec, projected: bool, notes: list[str]
) -> TextConfig:
    end = fields.values.get("eos_token_id", spec.end_of_text)
    if end == LEGACY_END:
        notes.append(f"eos_token_id 2 in {CONFIG} is a known mistake; {spec.end_of_text} is used")
        end = spec.end_of_text
    elif end is None:
        end = spec.end_of_text
    if end != spec.end_of_text:
        fields.refuse("eos_token_id", f"the tokenizer's end of text, {spec.end_of_text}")
    values = _read_fields(fields, TEXT, TEXT_FIELDS)
    return replace(TEXT, **values, end_of_text=end, projection=projected)


def read_image_config(fields: Fields) -> ViTConfig:
    """The sizes of the image tower in its table of a config."""
    if fields.get("num_channels", 3) != 3:
        fields.refuse("num_channels", "3")
    return replace(
        IMAGE,
        image_size=fields.square("image_size", IMAGE.image_size),
        patch_size=fields.square("patch_size", IMAGE.patch_size),
        **_read_fields(fields, IMAGE, FIELDS),
    )


def _read_fields(
    fields: Fields, default: TextConfig | ViTConfig, names: Mapping[str, str]
) -> dict[str, Any]:
    if fields.get("hidden_act", "quick_gelu") not in ("quick_gelu", "gelu"):
        fields.refuse("hidden_act", "quick_gelu or gelu")
    return {ours: fields.get(theirs, getattr(default, ours)) for theirs, ours in names.items()}


def _make_config(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    text = _make_text(config.text, checkpoint.tokenizer_spec) if config.text else {}
    image = _make_image(config.image) if isinstance(config.image, ViTConfig) else {}
    shared = {"projection_dim": config.embed, "initializer_factor": 1.0}
    if config.text and config.image:
        return {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            **shared,
            "logit_scale_init_value": 2.6592,
            "text_config": text | {"projection_dim": config.embed},
            "vision_config": image | {"projection_dim": config.embed},
        }
    if config.text:
        name = "CLIPTextModelWithProjection" if config.text.projection else "CLIPTextModel"
        return {"architectures": [name], **text, **shared}
    return {"architectures": ["CLIPVisionModelWithProjection"], **image, **shared}


def _make_text(text: TextConfig, spec: TokenizerSpec | None) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        **{theirs: getattr(text, ours) for theirs, ours in TEXT_FIELDS.items()},
        "bos_token_id": text.end_of_text - 1,
        "eos_token_id": text.end_of_text,
        "pad_token_id": spec.pad if spec else text.end_of_text,
    }


def _make_image(image: ViTConfig) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "num_channels": 3,
        **{theirs: getattr(image, ours) for theirs, ours in FIELDS.items()},
    }


def _list_obstacles(checkpoint: Checkpoint) -> Iterator[str]:
    image, text, spec = checkpoint.config.image, checkpoint.config.text, checkpoint.tokenizer_spec
    if isinstance(image, ResNetConfig):
        yield "its image tower is a ViT, this one is a ResNet"
    if image and text and not text.projection:
        yield "CLIPModel's text tower ends in a projection, this one does not"
    if text and spec and text.end_of_text != spec.end_of_text:
        yield f"its tokenizer ends texts with {spec.end_of_text}, this model at {text.end_of_text}"
