"""ecliptic's own layout: safetensors beside, or around, JSON that says everything.

A folder holds `model.safetensors` and `ecliptic.json`; a single `.safetensors` file carries the
same JSON in its metadata. Every model and every spec can be held.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.key_tables import KeyTable, Rule
from ecliptic.checkpoints.layouts import openai
from ecliptic.checkpoints.layouts.writing import json_writer, tensor_writer, write_files
from ecliptic.checkpoints.source import Source
from ecliptic.errors import ConfigError, CorruptFileError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig
from ecliptic.settings import from_dict, to_dict
from ecliptic.storage import parse_json

NAME = "ecliptic"
FORMAT = 1  # raised when an older ecliptic could no longer read what is written
CONFIG, WEIGHTS = "ecliptic.json", "model.safetensors"

# Fields that leave no trace in any tensor's shape: a wrong value would pass every other check.
_SHAPELESS = {
    "vit": ("activation", "eps", "heads"),
    "resnet": ("heads",),
    "text": ("activation", "end_of_text", "eps", "heads"),
}

_OURS = dict.fromkeys(
    rule.ours for rule in (*openai.TEXT_RULES, *openai.VIT_RULES, *openai.RESNET_RULES)
)
TABLE = KeyTable(Rule(name, name) for name in _OURS)


def matches(source: Source) -> bool:
    """Whether there is an `ecliptic.json`, or the same inside a safetensors file."""
    return CONFIG in source.files if source.folder else NAME in source.open().metadata


def read(source: Source, hints: Hints) -> Checkpoint:
    """The checkpoint exactly as it was written."""
    state = source.open(WEIGHTS if source.folder else None)
    if source.folder:
        card: Mapping[str, Any] = source.json(CONFIG)
    else:
        card = parse_json(state.metadata[NAME], f"{source.path}: its {NAME} metadata")
    stated, name = _stated(card, source.path)
    checkpoint = assemble(state.tensors, TABLE, stated, hints, layout=NAME, what=str(source.path))
    return checkpoint if hints.name or not name else replace(checkpoint, name=name)


def write(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """A folder, or one file if `path` ends in `.safetensors`; nothing is lost, so no notes."""
    card = _card(checkpoint)
    if path.suffix == ".safetensors":
        metadata = {"format": "pt", NAME: json.dumps(card)}
        files = {path.name: tensor_writer(checkpoint.weights, metadata)}
        write_files(path.parent, files, overwrite=overwrite)
    else:
        weights = tensor_writer(checkpoint.weights, {"format": "pt"})
        write_files(path, {WEIGHTS: weights, CONFIG: json_writer(card)}, overwrite=overwrite)
    return ()


def _card(checkpoint: Checkpoint) -> dict[str, Any]:
    towers = {"image": None, "text": None}  # a missing tower is written, not left to a default
    return {
        "format": FORMAT,
        "name": checkpoint.name,
        "config": towers | to_dict(checkpoint.config),
        "image_spec": to_dict(checkpoint.image_spec),
        "tokenizer_spec": to_dict(checkpoint.tokenizer_spec),
    }


def _stated(card: Mapping[str, Any], path: Path) -> tuple[Stated, str]:
    if card.get("format") != FORMAT:
        raise CorruptFileError(
            f"{path} has format {card.get('format')!r}, this ecliptic reads {FORMAT}; a newer "
            "ecliptic wrote it (upgrade), or its JSON is damaged."
        )
    _check_stated(card.get("config"), path)
    try:
        config = from_dict(ClipConfig, card["config"], where="config")
        image, text = card.get("image_spec"), card.get("tokenizer_spec")
        stated = Stated(
            config=config,
            image_spec=from_dict(ImageSpec, image, where="image_spec")
            if image is not None
            else None,
            tokenizer_spec=from_dict(TokenizerSpec, text, where="tokenizer_spec")
            if text is not None
            else None,
        )
        if lost := {"image", "text"} - card["config"].keys():
            raise ConfigError(f"config does not say whether there is a tower for {min(lost)}.")
    except ConfigError as error:
        raise CorruptFileError(f"{path}: {error}") from error
    return stated, str(card.get("name") or "")


def _check_stated(table: object, path: Path) -> None:
    """CorruptFileError if a field that no tensor's shape shows would be left to its default."""
    if not isinstance(table, Mapping):
        raise CorruptFileError(f"{path}: config must be a table, got {table!r:.80}.")
    for side in ("image", "text"):
        tower = table.get(side)
        fields = tower if isinstance(tower, Mapping) else {}
        wanted = _SHAPELESS.get(str(fields.get("kind", side)), ())
        lost = [name for name in wanted if tower is not None and name not in fields]
        if lost:
            raise CorruptFileError(
                f"{path}: config.{side} does not state {', '.join(lost)}, and the weights do not "
                "show it; the file was shortened by hand or is damaged: restore those lines."
            )
