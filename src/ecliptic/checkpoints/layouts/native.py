"""ecliptic's own layout: weights in safetensors, and JSON that states all settings.

A folder holds `model.safetensors` and `ecliptic.json`; a single `.safetensors` file has the same
JSON in its metadata. The layout can hold every model and every spec, and int8 layers, which have a
format of their own.
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
from ecliptic.checkpoints.layouts import int8_layers, openai
from ecliptic.checkpoints.layouts.writing import json_writer, tensor_writer, write_files
from ecliptic.checkpoints.source import Source
from ecliptic.errors import ConfigError, CorruptFileError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig
from ecliptic.scoring import Calibration
from ecliptic.settings import from_dict, to_dict
from ecliptic.storage import parse_json

NAME = "ecliptic"
FORMAT = 1  # increased when older versions of ecliptic cannot read the new files
INT8_FORMAT = 2  # of files with int8 layers
CONFIG, WEIGHTS = "ecliptic.json", "model.safetensors"

# Fields that no tensor's shape shows: a wrong value would pass every other check.
_SHAPELESS = {
    "vit": ("activation", "eps", "heads"),
    "resnet": ("heads",),
    "text": ("activation", "end_of_text", "eps", "heads"),
}

_SPECS = {"image_spec": ImageSpec, "tokenizer_spec": TokenizerSpec, "calibration": Calibration}

_OURS = dict.fromkeys(
    rule.ours for rule in (*openai.TEXT_RULES, *openai.VIT_RULES, *openai.RESNET_RULES)
)
TABLE = KeyTable(Rule(name, name) for name in _OURS)


def matches(source: Source) -> bool:
    """Whether this is a folder with `ecliptic.json`, or a file with the same JSON."""
    return CONFIG in source.files if source.folder else NAME in source.open().metadata


def read(source: Source, hints: Hints) -> Checkpoint:
    """Read the checkpoint exactly as it was written."""
    state = source.open(WEIGHTS if source.folder else None)
    if source.folder:
        card: Mapping[str, Any] = source.json(CONFIG)
    else:
        card = parse_json(state.metadata[NAME], f"{source.path}: its {NAME} metadata")
    stated, name = _parse_card(card, source.path)
    tensors, int8 = state.tensors, None
    if card["format"] == INT8_FORMAT:
        tensors, int8 = int8_layers.read_layers(tensors, card.get(int8_layers.KEY, {}), source.path)
    checkpoint = assemble(tensors, TABLE, stated, hints, layout=NAME, what=str(source.path))
    if int8 is not None and checkpoint.config == stated.config:
        checkpoint = replace(checkpoint, quantisation=int8)
    elif int8 is not None:
        note = "the int8 layers in the file are not used: they are those of other settings"
        checkpoint = replace(checkpoint, notes=(*checkpoint.notes, note))
    return checkpoint if hints.name or not name else replace(checkpoint, name=name)


def write(checkpoint: Checkpoint, path: Path, *, overwrite: bool = False) -> tuple[str, ...]:
    """Write a folder, or one file if `path` ends in `.safetensors`; there are no notes."""
    card, tensors = _make_card(checkpoint), int8_layers.stored_tensors(checkpoint)
    if path.suffix == ".safetensors":
        files = {path.name: tensor_writer(tensors, **{NAME: json.dumps(card)})}
        write_files(path.parent, files, overwrite=overwrite)
    else:
        files = {WEIGHTS: tensor_writer(tensors), CONFIG: json_writer(card)}
        write_files(path, files, overwrite=overwrite)
    return ()


def _make_card(checkpoint: Checkpoint) -> dict[str, Any]:
    towers = {"image": None, "text": None}  # a missing tower is written as null
    int8 = checkpoint.quantisation
    return {
        "format": INT8_FORMAT if int8 else FORMAT,
        "name": checkpoint.name,
        "config": towers | to_dict(checkpoint.config),
        "image_spec": to_dict(checkpoint.image_spec),
        "tokenizer_spec": to_dict(checkpoint.tokenizer_spec),
        **({"calibration": to_dict(checkpoint.calibration)} if checkpoint.calibration else {}),
        **({int8_layers.KEY: int8_layers.stored_facts(int8)} if int8 else {}),
    }


def _parse_card(card: Mapping[str, Any], path: Path) -> tuple[Stated, str]:
    if card.get("format") not in (FORMAT, INT8_FORMAT):
        raise CorruptFileError(
            f"{path} has format {card.get('format')!r}, this ecliptic reads {FORMAT} and "
            f"{INT8_FORMAT}; a newer "
            "ecliptic wrote it (upgrade), or its JSON is damaged."
        )
    _check_towers(card.get("config"), path)
    try:
        config = from_dict(ClipConfig, card["config"], where="config")
        specs: dict[str, Any] = {
            name: from_dict(kind, card[name], where=name)
            for name, kind in _SPECS.items()
            if card.get(name) is not None
        }
        if lost := {"image", "text"} - card["config"].keys():
            raise ConfigError(f"config does not say whether there is a tower for {min(lost)}.")
    except ConfigError as error:
        raise CorruptFileError(f"{path}: {error}") from error
    return Stated(config=config, **specs), str(card.get("name") or "")


def _check_towers(table: object, path: Path) -> None:
    """Raise CorruptFileError if a field that no tensor's shape shows is missing."""
    if not isinstance(table, Mapping):
        raise CorruptFileError(f"{path}: config must be a table, got {table!r:.80}.")
    for side in ("image", "text"):
        tower = table.get(side)
        fields = tower if isinstance(tower, Mapping) else {}
        needed = _SHAPELESS.get(str(fields.get("kind", side)), ())
        lost = [name for name in needed if tower is not None and name not in fields]
        if lost:
            raise CorruptFileError(
                f"{path}: config.{side} does not state {', '.join(lost)}, and the weights do not "
                "show it; the file was shortened by hand or is damaged: restore those lines."
            )
