"""From a file's tensors and what it says about itself to a checked `Checkpoint`.

Every layout ends here, so that sizes, heads, activation and specs are settled by one rule:
the caller's argument, then the file, then the released models of these sizes; else an error.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from torch import Tensor

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.conform import conform
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.identity.identify import (
    check_specs,
    identify,
    image_spec_of,
    tokenizer_spec_of,
    with_activation,
)
from ecliptic.checkpoints.key_tables import KeyTable, Translation
from ecliptic.errors import CorruptFileError, UnsupportedLayoutError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import ClipConfig

T = TypeVar("T")

# Tensors that only other kinds of model have, and what those models are.
_FOREIGN = (
    ("logit_bias", "a SigLIP checkpoint (it has a logit_bias), trained with a sigmoid loss"),
    ("visual.trunk.", "an open_clip model with a timm image tower"),
    ("text_decoder.", "a captioning model (CoCa)"),
    ("visual.head.", "an open_clip model with an image tower of another kind"),
    ("transformer.embeddings.", "an open_clip model with a Hugging Face text tower"),
    ("lora_", "a LoRA, which changes a model but is none"),
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
    """A checkpoint whose weights fit its sizes exactly.

    Args:
        tensors: as named in the file, prefixes removed.
        table: the naming scheme of the file.
        stated: what the file says beside its tensors.
        hints: what the caller or the catalog says.
        layout: for `Checkpoint.layout`.
        what: the file, for messages.

    Raises:
        UnsupportedLayoutError: another kind of model.
        WeightsMismatchError: tensors missing, unexpected or ill-shaped; the first named.
        AmbiguousCheckpointError: neither file nor hints tell; names the argument.
        ConfigError: a given spec does not fit the towers.
    """
    _refuse_foreign(tensors, what)
    found = table.to_native(tensors)
    notes = list(stated.notes)
    config = _config(found, table, stated, hints, notes, what)
    _note_dropped(found, config, notes)
    weights = conform(config, found, table, what)
    _check_temperature(weights, what)
    specs = _specs(config, stated, hints, notes, what)
    return Checkpoint(config, weights, *specs, hints.name, layout, tuple(notes))


def _specs(
    config: ClipConfig, stated: Stated, hints: Hints, notes: list[str], what: str
) -> tuple[ImageSpec | None, TokenizerSpec | None]:
    """How inputs are prepared, for the towers that are there."""
    image_spec = _settle(hints.image_spec, stated.image_spec, "image_spec", notes)
    tokenizer_spec = _settle(hints.tokenizer_spec, stated.tokenizer_spec, "tokenizer_spec", notes)
    image_spec = image_spec or image_spec_of(config, notes, what)
    tokenizer_spec = tokenizer_spec or tokenizer_spec_of(config, stated.pad, notes, what)
    check_specs(config, image_spec, tokenizer_spec)
    return image_spec if config.image else None, tokenizer_spec if config.text else None


def _config(
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
        config = with_activation(config, hints.activation)
    if config != stated.config:
        notes.append("heads or activation as given, not as the file's own config has them")
    return config


def _settle(given: T | None, stated: T | None, name: str, notes: list[str]) -> T | None:
    if given is not None and stated is not None and given != stated:
        notes.append(f"{name} as given, {given}; the file's own config says {stated}")
    return given if given is not None else stated


def _refuse_foreign(tensors: Mapping[str, Tensor], what: str) -> None:
    for mark, kind in _FOREIGN:
        if any(name.startswith(mark) for name in tensors):
            raise UnsupportedLayoutError(
                f"{what} is {kind}; ecliptic reads CLIP with its own image and text towers. "
                "Use a CLIP checkpoint; `ecliptic models` lists the released ones."
            )


def _check_temperature(weights: Mapping[str, Tensor], what: str) -> None:
    scale = weights.get("logit_scale")
    if scale is not None and not scale.is_meta and not abs(scale.item()) < 80:  # nor is NaN
        raise CorruptFileError(
            f"{what}: logit_scale is {scale.item()}, whose exponential is no finite number; the "
            "file is damaged, or its training diverged."
        )


def _note_dropped(found: Translation, config: ClipConfig, notes: list[str]) -> None:
    dropped = list(found.dropped)
    if (config.image is None or config.text is None) and "logit_scale" in found.weights:
        del found.weights["logit_scale"]  # a temperature relates two towers
        dropped.append("logit_scale")
    if dropped:
        notes.append(f"not needed and left out: {', '.join(dropped)}")
