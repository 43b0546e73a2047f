"""`assemble` makes a checked `Checkpoint` from the tensors and the settings of a file.

Every layout calls it, so that one rule decides sizes, heads, activation and specs: the caller's
argument, then the file, then the released models of these sizes; else an error.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from ecliptic.checkpoints.catalog import replace_activation
from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.conform import conform
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.identity.identify import (
    check_specs,
    find_image_spec,
    find_tokenizer_spec,
    identify,
)
from ecliptic.checkpoints.key_tables import KeyTable, Translation
from ecliptic.errors import CorruptFileError, UnsupportedLayoutError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig
from ecliptic.storage import release

T = TypeVar("T")

# Tensors that only other kinds of model have, and what those models are.
_FOREIGN = (
    ("logit_bias", "a SigLIP checkpoint (it has a logit_bias), trained with a sigmoid loss"),
    ("visual.trunk.", "an open_clip model with a timm image tower"),
    ("text_decoder.", "a captioning model (CoCa)"),
    ("visual.head.", "an open_clip model with an image tower of another kind"),
    ("transformer.embeddings.", "an open_clip model with a Hugging Face text tower"),
    ("lora_", "a LoRA, which changes a model but is not one"),
)


def assemble(
    tensors: Mapping[str, Tensor],
    table: KeyTable,
    stated: Stated,
    hints: Hints,
    *,
    layout: str,
    what: str,
) -> Checkpoint:
    """Make a checkpoint whose weights fit its sizes exactly.

    Args:
        tensors: as named in the file, prefixes removed; nothing was written to them.
        table: the naming scheme of the file.
        stated: the settings in the file.
        hints: the settings from the caller or the catalog.
        layout: for `Checkpoint.layout`.
        what: the file, for messages.

    Raises:
        UnsupportedLayoutError: another kind of model.
        WeightsMismatchError: tensors are missing, unexpected or of a wrong shape.
        AmbiguousCheckpointError: neither file nor hints state a setting; names the argument.
        ConfigError: a given spec does not fit the towers.
    """
    _refuse_foreign(tensors, what)
    found = table.to_native(tensors)
    for tensor in found.copied:
        release(tensor)
    notes = list(stated.notes)
    config = _settle_config(found, table, stated, hints, notes, what)
    _note_dropped(found, config, notes)
    weights = conform(config, found, table, what)
    _check_temperature(weights, what)
    specs = _settle_specs(config, stated, hints, notes, what)
    calibration = stated.calibration
    if calibration and (config, *specs) != (
        stated.config,
        stated.image_spec,
        stated.tokenizer_spec,
    ):
        notes.append("the calibration in the file is not used: it is that of other settings")
        calibration = None
    return Checkpoint(config, weights, *specs, hints.name, layout, calibration, tuple(notes))


def _settle_specs(
    config: ClipConfig, stated: Stated, hints: Hints, notes: list[str], what: str
) -> tuple[ImageSpec | None, TokenizerSpec | None]:
    """The input specs of the towers that the model has."""
    image_spec = _settle(hints.image_spec, stated.image_spec, "image_spec", notes)
    tokenizer_spec = _settle(hints.tokenizer_spec, stated.tokenizer_spec, "tokenizer_spec", notes)
    image_spec = image_spec or find_image_spec(config, notes, what)
    tokenizer_spec = tokenizer_spec or find_tokenizer_spec(config, stated.pad, what)
    check_specs(config, image_spec, tokenizer_spec)
    return image_spec if config.image else None, tokenizer_spec if config.text else None


def _settle_config(
    found: Translation,
    table: KeyTable,
    stated: Stated,
    hints: Hints,
    notes: list[str],
    what: str,
) -> ClipConfig:
    if stated.config is None:
        return identify(found.weights, hints, stated, table, what)
    config = stated.config
    if config.image and (heads := hints.heads_of("image")):
        config = replace(config, image=replace(config.image, heads=heads))
    if config.text and (heads := hints.heads_of("text")):
        config = replace(config, text=replace(config.text, heads=heads))
    if hints.activation:
        config = replace_activation(config, hints.activation)
    if config != stated.config:
        notes.append("heads or activation as given; the file's own config says otherwise")
    return config


def _settle(given: T | None, stated: T | None, name: str, notes: list[str]) -> T | None:
    if given is not None and stated is not None and given != stated:
        notes.append(f"{name} as given, {given}; the file's own config says {stated}")
    return given if given is not None else stated


def _refuse_foreign(tensors: Mapping[str, Tensor], what: str) -> None:
    for mark, kind in _FOREIGN:
        if any(name.startswith(mark) for name in tensors):
            raise UnsupportedLayoutError(
                f"{what} is {kind}; ecliptic reads only CLIP's own image and text towers. "
                "Use a CLIP checkpoint; `ecliptic models` lists the released ones."
            )


def _check_temperature(weights: Mapping[str, Tensor], what: str) -> None:
    scale = weights.get("logit_scale")
    if scale is not None and not scale.is_meta and not abs(scale.item()) < 80:  # also refuses NaN
        raise CorruptFileError(
            f"{what}: logit_scale is {scale.item()}, and its exponential is not a finite number; "
            "the file is damaged, or its training diverged."
        )


def _note_dropped(found: Translation, config: ClipConfig, notes: list[str]) -> None:
    dropped = list(found.dropped)
    if (config.image is None or config.text is None) and "logit_scale" in found.weights:
        del found.weights["logit_scale"]  # a temperature relates two towers
        dropped.append("logit_scale")
    if dropped:
        notes.append(f"not needed and left out: {', '.join(dropped)}")
