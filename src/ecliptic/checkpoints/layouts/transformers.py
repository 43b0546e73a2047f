"""Hugging Face's layout: `config.json` beside `model.safetensors`, whole, sharded or pickled.

CLIPModel, CLIPTextModel, CLIPTextModelWithProjection and CLIPVisionModelWithProjection, under
the names of every version: with `position_ids` buffers (before 4.31) and without the
`text_model.` prefix (CLIPTextModel since 5.6). Source: transformers configuration_clip.py,
modeling_clip.py. The tokenizer's and the image processor's files are `transformers_inputs`'s.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.fields import Fields
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.key_tables import KeyTable, Rule
from ecliptic.checkpoints.layouts import transformers_inputs as inputs
from ecliptic.checkpoints.layouts.writing import (
    json_writer,
    refuse_layout,
    tensor_writer,
    write_files,
)
from ecliptic.checkpoints.source import Source
from ecliptic.errors import UnsupportedLayoutError
from ecliptic.inputs import TokenizerSpec
from ecliptic.model import Activation, ClipConfig, ResNetConfig, TextConfig, ViTConfig

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
# model_type -> the towers it has; each nests under its own name only in "clip".
TOWERS = {
    "clip": ("text", "image"),
    "clip_text_model": ("text",),
    "clip_vision_model": ("image",),
}
# What a file with these names and no config is taken to say: padding as Hugging Face does it.
BARE = Stated(
    pad=TokenizerSpec().end_of_text,
    notes=("no tokenizer beside the weights; texts are padded with the end of text, as there",),
)
LEGACY_END = 2  # `eos_token_id` of configs written before transformers 4.31; never CLIP's
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
        *_tower_rules("image", "vision_model", "pre_layrnorm", "post_layernorm"),  # sic
        Rule("image.projection", "visual_projection.weight", transposed=True),
    ),
    dropped=("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"),
)


def matches(source: Source) -> bool:
    """Whether this is a folder with a CLIP `config.json`, or a file with Hugging Face's names."""
    if source.folder:
        return source.json(CONFIG).get("model_type") in tuple(TOWERS)  # it may be a list
    return any(name.endswith((TEXT_MARK, IMAGE_MARK)) for name in source.open().tensors)


def read(
    source: Source,
    hints: Hints,
    *,
    tokenizer: Source | None = None,
    images: Source | None = None,
    layout: str = NAME,
) -> Checkpoint:
    """The model of a folder, or of a bare file that `hints` complete.

    Args:
        source: the folder or file.
        hints: what the caller knows.
        tokenizer: where the tokenizer's files lie, if not in the folder itself.
        images: where the image processor's file lies, if not in the folder itself.
        layout: for `Checkpoint.layout`.
    """
    if source.folder:
        name = source.first(*ANY_WEIGHTS)
        if name is None:
            raise UnsupportedLayoutError(
                f"{source.path} has {CONFIG} but none of {', '.join(ANY_WEIGHTS)}; "
                "download the weights into the same folder."
            )
        stated = _stated(source, tokenizer or source, images or source)
        state = source.open(name)
    else:
        state, stated = source.open(), BARE
    return assemble(
        plain_names(state.tensors), TABLE, stated, hints, layout=layout, what=str(source.path)
    )


def write(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """A folder for `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained`.

    Raises:
        UnsupportedLayoutError: a ResNet, or two towers of which one has no projection.
    """
    if reasons := list(_obstacles(checkpoint)):
        refuse_layout(NAME, reasons)
    weights = tensor_writer(TABLE.from_native(checkpoint.weights), {"format": "pt"})
    writers = {WEIGHTS: weights}
    if checkpoint.tokenizer_spec:
        writers |= inputs.tokenizer_writers(checkpoint.tokenizer_spec)
    if checkpoint.image_spec:
        writers |= inputs.image_writers(checkpoint.image_spec)
    writers[CONFIG] = json_writer(_config_json(checkpoint))
    write_files(path, writers, overwrite=overwrite)
    return ()


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names with the tower's prefix, which CLIPTextModel has dropped since transformers 5.6."""
    for mark, prefix in ((TEXT_MARK, "text_model."), (IMAGE_MARK, "vision_model.")):
        if mark in tensors:
            parts = ("embeddings.", "encoder.", "pre_", "post_", "final_")
            return {
                prefix + name if name.startswith(parts) else name: tensor
                for name, tensor in tensors.items()
            }
    return dict(tensors)


def _stated(source: Source, tokenizer: Source, images: Source) -> Stated:
    raw = source.json(CONFIG)
    towers = TOWERS[raw["model_type"]]
    config = Fields(raw, str(source.path / CONFIG))
    text = image = None
    notes: list[str] = []
    spec = None
    if "text" in towers:
        fields = _tower_fields(config, "text_config") if len(towers) == 2 else config
        spec = inputs.read_tokenizer(tokenizer, fields.get("max_position_embeddings", 77), notes)
        projected = _has(source, "text_projection.weight")
        text = _text_config(fields, spec, projected, notes)
    if "image" in towers:
        fields = _tower_fields(config, "vision_config") if len(towers) == 2 else config
        image = _image_config(fields)
        if not _has(source, "visual_projection.weight"):
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
        tokenizer_spec=spec,
        notes=tuple(notes),
    )


def _has(source: Source, tensor: str) -> bool:
    return tensor in source.open(source.first(*ANY_WEIGHTS)).tensors


def _tower_fields(config: Fields, name: str) -> Fields:
    """A tower's table; the older `text_config_dict` wins, as in configuration_clip.py."""
    old = f"{name}_dict"
    return config.table(old if config.values.get(old) is not None else name)


def _text_config(
    fields: Fields, spec: TokenizerSpec, projected: bool, notes: list[str]
) -> TextConfig:
    """Defaults are those of CLIPTextConfig."""
    end = fields.values.get("eos_token_id", spec.end_of_text)
    if end == LEGACY_END:
        notes.append(f"eos_token_id 2 in {CONFIG} is a known mistake; pooled at {spec.end_of_text}")
        end = spec.end_of_text
    elif end is None:
        end = spec.end_of_text
    if end != spec.end_of_text:
        fields.refuse("eos_token_id", f"the tokenizer's end of text, {spec.end_of_text}")
    return TextConfig(
        vocabulary=fields.get("vocab_size", 49408),
        context=fields.get("max_position_embeddings", 77),
        width=fields.get("hidden_size", 512),
        depth=fields.get("num_hidden_layers", 12),
        heads=fields.get("num_attention_heads", 8),
        mlp=fields.get("intermediate_size", 2048),
        activation=_activation(fields),
        eps=fields.get("layer_norm_eps", 1e-5),
        end_of_text=end,
        projection=projected,
    )


def _image_config(fields: Fields) -> ViTConfig:
    """Defaults are those of CLIPVisionConfig."""
    if fields.get("num_channels", 3) != 3:
        fields.refuse("num_channels", "3")
    return ViTConfig(
        image_size=fields.square("image_size", 224),
        patch_size=fields.square("patch_size", 32),
        width=fields.get("hidden_size", 768),
        depth=fields.get("num_hidden_layers", 12),
        heads=fields.get("num_attention_heads", 12),
        mlp=fields.get("intermediate_size", 3072),
        activation=_activation(fields),
        eps=fields.get("layer_norm_eps", 1e-5),
    )


def _activation(fields: Fields) -> Activation:
    found = fields.get("hidden_act", "quick_gelu")  # the default of both config classes
    if found not in ("quick_gelu", "gelu"):
        fields.refuse("hidden_act", "quick_gelu or gelu")
    return cast(Activation, found)


def _config_json(checkpoint: Checkpoint) -> dict[str, Any]:
    config = checkpoint.config
    text = _text_json(config.text, checkpoint.tokenizer_spec) if config.text else {}
    image = _image_json(config.image) if isinstance(config.image, ViTConfig) else {}
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


def _text_json(text: TextConfig, spec: TokenizerSpec | None) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": text.vocabulary,
        "max_position_embeddings": text.context,
        "hidden_size": text.width,
        "num_hidden_layers": text.depth,
        "num_attention_heads": text.heads,
        "intermediate_size": text.mlp,
        "hidden_act": text.activation,
        "layer_norm_eps": text.eps,
        "bos_token_id": text.end_of_text - 1,
        "eos_token_id": text.end_of_text,
        "pad_token_id": spec.pad if spec else text.end_of_text,
    }


def _image_json(image: ViTConfig) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "image_size": image.image_size,
        "patch_size": image.patch_size,
        "num_channels": 3,
        "hidden_size": image.width,
        "num_hidden_layers": image.depth,
        "num_attention_heads": image.heads,
        "intermediate_size": image.mlp,
        "hidden_act": image.activation,
        "layer_norm_eps": image.eps,
    }


def _obstacles(checkpoint: Checkpoint) -> Iterator[str]:
    image, text, spec = checkpoint.config.image, checkpoint.config.text, checkpoint.tokenizer_spec
    if isinstance(image, ResNetConfig):
        yield "its image tower is a ViT, this one is a ResNet"
    if image and text and not text.projection:
        yield "CLIPModel's text tower ends in a projection, this one does not"
    if text and spec and text.end_of_text != spec.end_of_text:
        yield f"its tokenizer ends texts with {spec.end_of_text}, this model at {text.end_of_text}"
