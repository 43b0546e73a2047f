"""Reads and writes Hugging Face's tokenizer and image processor files, as our specs.

Only CLIP's own tokenizer is accepted, whole or with its merge list cut; any other merge list is
refused. The padding id needs a field of our own: registering "!" as a padding token, as SDXL's
folders do for id 0, makes transformers read every "!" of a text as padding.
"""

import json
from collections.abc import Mapping
from typing import Any

from ecliptic.checkpoints.identity.fields import Fields
from ecliptic.checkpoints.layouts.writing import json_writer
from ecliptic.checkpoints.source import Source
from ecliptic.errors import UnsupportedLayoutError
from ecliptic.inputs import (
    SPECIALS,
    ImageSpec,
    Interpolation,
    Resize,
    TokenizerSpec,
    written_merges,
    written_vocabulary,
)
from ecliptic.storage import Writer, read_text, text_writer

PROCESSOR = "preprocessor_config.json"
PAD_FIELD = "ecliptic_pad_id"
START, END = SPECIALS
_RESAMPLING: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}  # PIL.Image.Resampling


def read_tokenizer(source: Source, context: int, notes: list[str]) -> TokenizerSpec:
    """Read the spec of a folder's tokenizer; without one, use Hugging Face's defaults."""
    merges = _count_merges(source)
    if merges is None:
        notes.append("no tokenizer beside the weights; CLIP's is used, with Hugging Face's padding")
        merges = TokenizerSpec().merges
    spec = TokenizerSpec(merges=merges, context=context)
    return TokenizerSpec(merges=merges, context=context, pad=_read_pad(source, spec))


def has_tokenizer(source: Source) -> bool:
    """Whether the folder states its tokenizer."""
    return source.first("merges.txt", "tokenizer.json") is not None


def tokenizer_writers(spec: TokenizerSpec) -> dict[str, Writer]:
    """The four files of a CLIPTokenizer."""
    vocabulary = {token: id_ for id_, token in enumerate(written_vocabulary(spec.merges))}
    specials = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": spec.context,
        "do_lower_case": True,
        "errors": "replace",
        **specials,
        PAD_FIELD: spec.pad,
    }
    return {
        "vocab.json": text_writer(json.dumps(vocabulary, ensure_ascii=False)),
        "merges.txt": text_writer("\n".join(["#version: 0.2", *written_merges(spec.merges), ""])),
        "special_tokens_map.json": json_writer(specials),
        "tokenizer_config.json": json_writer(config),
    }


def read_image_spec(source: Source, image_size: int) -> ImageSpec | None:
    """Read the spec of the image processor; None if there is none."""
    name = PROCESSOR if PROCESSOR in source.files else "processor_config.json"
    fields = Fields(source.json(name), str(source.path / name))
    fields = fields if name == PROCESSOR else fields.table("image_processor")
    if not fields.values:
        return None
    for step in ("do_resize", "do_normalize", "do_rescale"):
        if not fields.get(step, True):
            fields.refuse(step, "true")
    size, resize = _read_size(fields, image_size)
    resample = fields.get("resample", 3)
    if resample not in _RESAMPLING:
        fields.refuse("resample", "2 (bilinear) or 3 (bicubic)")
    default = ImageSpec()
    return ImageSpec(
        size=size,
        mean=fields.triple("image_mean", default.mean),
        std=fields.triple("image_std", default.std),
        interpolation=_RESAMPLING[resample],
        resize=resize,
    )


def image_writers(spec: ImageSpec) -> dict[str, Writer]:
    """The file of a CLIPImageProcessor."""
    square = {"height": spec.size, "width": spec.size}
    shortest = spec.resize == "shortest"
    values = {
        "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor",
        "do_resize": True,
        "size": {"shortest_edge": spec.size} if shortest else square,
        "do_center_crop": shortest,
        "crop_size": square,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": list(spec.mean),
        "image_std": list(spec.std),
        "resample": next(k for k, v in _RESAMPLING.items() if v == spec.interpolation),
    }
    return {PROCESSOR: json_writer(values)}


def _count_merges(source: Source) -> int | None:
    """How many merges of the reference list the folder's tokenizer has; None without one."""
    if "merges.txt" in source.files:
        text = read_text(source.path / "merges.txt")
        lines = [line for line in text.split("\n") if line and not line.startswith("#version")]
    elif "tokenizer.json" in source.files:
        model = Fields(source.json("tokenizer.json"), "tokenizer.json").table("model")
        found: list[Any] = model.get("merges", [])
        lines = [" ".join(map(str, x)) if isinstance(x, list) else str(x) for x in found]
    else:
        return None
    if lines != written_merges(len(lines)):
        raise UnsupportedLayoutError(
            f"{source.path} has a tokenizer whose merges are not CLIP's; "
            "only CLIP's own byte-pair tokenizer, whole or cut, can be used."
        )
    return len(lines)


def _read_pad(source: Source, spec: TokenizerSpec) -> int:
    config = source.json("tokenizer_config.json")
    if PAD_FIELD in config:
        return Fields(config, "tokenizer_config.json").get(PAD_FIELD, 0)
    token = config.get("pad_token") or source.json("special_tokens_map.json").get("pad_token")
    if isinstance(token, Mapping):  # an AddedToken as JSON
        token = token.get("content")
    if token in (None, END):
        return spec.end_of_text
    vocabulary = written_vocabulary(spec.merges)
    if token not in vocabulary:
        raise UnsupportedLayoutError(
            f"{source.path} pads with {token!r}, which is not in CLIP's vocabulary; "
            "pass tokenizer_spec=TokenizerSpec(pad=...)."
        )
    return vocabulary.index(token)


def _read_size(fields: Fields, image_size: int) -> tuple[int, Resize]:
    """Edge and resize mode; a number alone is the shorter edge (transformers < 4.22)."""
    size, crop = fields.values.get("size", image_size), fields.values.get("crop_size", image_size)
    crop = crop.get("height") if isinstance(crop, Mapping) else crop
    if isinstance(size, Mapping) and "shortest_edge" not in size:
        if size.get("height") != size.get("width"):
            fields.refuse("size", "a square")
        return Fields(dict(size), fields.where).get("height", image_size), "squash"
    edge = size["shortest_edge"] if isinstance(size, Mapping) else size
    if edge != crop or not fields.get("do_center_crop", True):
        fields.refuse("size", f"the crop's edge {crop} and a centre crop")
    return Fields({"size": edge}, fields.where).get("size", image_size), "shortest"
