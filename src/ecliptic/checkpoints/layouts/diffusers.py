"""CLIP encoders inside diffusion checkpoints, read-only: pipeline folders and single files.

The prefix of a tensor's name tells the encoder, so its activation and padding are known; a
checkpoint with several encoders needs `part=`. Sources: diffusers loaders/single_file_utils.py,
CompVis stable-diffusion, Stability generative-models configs, ComfyUI supported_models.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.layouts import open_clip, openai, transformers
from ecliptic.checkpoints.source import Source
from ecliptic.errors import AmbiguousCheckpointError, UnsupportedLayoutError
from ecliptic.inputs import TokenizerSpec
from ecliptic.model import Activation

NAME = "diffusers"
INDEX = "model_index.json"


@dataclass(frozen=True)
class Encoder:
    """One text encoder of a single-file checkpoint."""

    prefix: str  # of its tensors' names
    part: str
    folder: str  # what diffusers calls the same encoder
    naming: str  # "transformers" or "open_clip"
    activation: Activation
    pad: int  # id that follows the end of text


_END = TokenizerSpec().end_of_text
_SD1, _SD2 = "cond_stage_model.transformer.", "cond_stage_model.model."
_SDXL_L, _SDXL_G = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_REFINER = "conditioner.embedders.0.model."
_SD3_L, _SD3_G = "text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer."
ENCODERS = (
    Encoder(_SD1, "clip_l", "text_encoder", "transformers", "quick_gelu", _END),
    Encoder(_SD2, "clip_h", "text_encoder", "open_clip", "gelu", 0),
    Encoder(_SDXL_L, "clip_l", "text_encoder", "transformers", "quick_gelu", _END),
    Encoder(_SDXL_G, "clip_g", "text_encoder_2", "open_clip", "gelu", 0),
    Encoder(_REFINER, "clip_g", "text_encoder_2", "open_clip", "gelu", 0),
    Encoder(_SD3_L, "clip_l", "text_encoder", "transformers", "quick_gelu", _END),
    Encoder(_SD3_G, "clip_g", "text_encoder_2", "transformers", "gelu", 0),
)
# Folder of an encoder -> where a pipeline may have its tokenizer, or its image processor.
TOKENIZERS = {"text_encoder": ("tokenizer",), "text_encoder_2": ("tokenizer_2",)}
PROCESSORS = {"image_encoder": ("feature_extractor", "image_processor")}


def matches(source: Source) -> bool:
    """Whether this is a pipeline folder, or a file with an encoder under a known prefix."""
    if source.folder:
        return INDEX in source.files
    return bool(_find_encoders(source))


def read(source: Source, hints: Hints) -> Checkpoint:
    """Read one encoder, chosen by `hints.part` if there are several.

    Raises:
        AmbiguousCheckpointError: several encoders and no `part`, or an unknown part.
    """
    return _read_folder(source, hints) if source.folder else _read_file(source, hints)


def _read_folder(source: Source, hints: Hints) -> Checkpoint:
    folders = _open_folders(source, (*TOKENIZERS, *PROCESSORS))
    found = {name: folder for name, folder in folders.items() if transformers.matches(folder)}
    part = _choose(list(found), hints.part, source)
    tokenizer, images = (
        next(iter(_open_folders(source, table.get(part, ())).values()), None)
        for table in (TOKENIZERS, PROCESSORS)
    )
    return transformers.read(found[part], hints, tokenizer=tokenizer, images=images, layout=NAME)


def _open_folders(source: Source, names: Iterable[str]) -> dict[str, Source]:
    return {name: Source(source.path / name) for name in names if (source.path / name).is_dir()}


def _read_file(source: Source, hints: Hints) -> Checkpoint:
    encoders = {encoder.part: encoder for encoder in _find_encoders(source)}
    folders = {encoder.folder: encoder.part for encoder in encoders.values()}
    part = _choose(list(encoders), folders.get(hints.part or "", hints.part), source)
    encoder = encoders[part]
    tensors = {
        name.removeprefix(encoder.prefix): tensor
        for name, tensor in source.open().tensors.items()
        if name.startswith(encoder.prefix)
    }
    if encoder.naming == "open_clip":
        tensors, table = open_clip.remove_prefixes(tensors), openai.WITH_VIT
    else:
        tensors, table = transformers.add_prefixes(tensors), transformers.TABLE
    stated = Stated(activation=encoder.activation, pad=encoder.pad)
    what = f"{source.path} ({part})"
    return assemble(tensors, table, stated, hints, layout=NAME, what=what)


def _find_encoders(source: Source) -> list[Encoder]:
    names = source.open().tensors
    return [e for e in ENCODERS if any(name.startswith(e.prefix) for name in names)]


def _choose(parts: list[str], asked: str | None, source: Source) -> str:
    if not parts:
        raise UnsupportedLayoutError(
            f"{source.path} is a diffusion checkpoint without a CLIP encoder; load a CLIP "
            "checkpoint, or the full version of the pipeline."
        )
    if asked in parts:
        return asked
    if asked is None and len(parts) == 1:
        return parts[0]
    choices = " or ".join(f'part="{part}"' for part in parts)
    problem = f"has no part {asked!r}" if asked else f"holds {len(parts)} CLIP encoders"
    raise AmbiguousCheckpointError(f"{source.path} {problem}; pass {choices}.")
