"""`conditioner` finds and loads the encoders of a family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecliptic.checks import check_choice
from ecliptic.diffusion.conditioners import Conditioner
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.families import FAMILIES, Family
from ecliptic.diffusion.language import LanguageEncoder
from ecliptic.engine import Clip, Precision, load
from ecliptic.errors import ConfigError
from ecliptic.storage import read_json

EncoderSource = str | Path | Clip  # anything `load` takes, or what it returned
INDEX = "model_index.json"  # of a diffusers pipeline
DENOISER = "transformer/config.json"  # likewise, of SD3


def conditioner(
    family: str,
    encoders: EncoderSource | Sequence[EncoderSource],
    *,
    t5: str | Path | None = None,
    force_zeros: bool | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    offline: bool | None = None,
) -> Conditioner:
    """Load a conditioner, which turns prompts and images into tensors of a diffusion model.

    Args:
        family: a row of `FAMILIES`: "sd1", "sdxl", "flux", ...
        encoders: a diffusers folder or single-file checkpoint with all of them, or one source
            each in the family's order: anything `load` takes, or a loaded `Clip`.
        t5: Hugging Face folder of the T5 encoder of SD3 or FLUX; without it, calls may pass
            tensors of T5.
        force_zeros: use zeros, not the empty prompt, if no negative is given; None: as in the
            config of the pipeline, else the family's rule.
        device, precision, offline: as in `load`.

    Raises:
        ConfigError: an unknown family, or the wrong number of encoders.
        CheckpointError, UnknownModelError: an encoder cannot be loaded.
    """
    check_choice("family", family, FAMILIES)
    row = FAMILIES[family]
    sources = _list_sources(row, encoders)
    clips = [
        source
        if isinstance(source, Clip)
        else load(source, part=folder, device=device, precision=precision, offline=offline)
        for source, folder in zip(sources, _folders(row), strict=False)  # images are optional
    ]
    texts = tuple(
        TextEncoder(clip, rule, folder=not isinstance(source, Clip) and Path(source).is_dir())
        for clip, rule, source in zip(clips, row.encoders, sources, strict=False)
    )
    if force_zeros is None and row.sizes:
        force_zeros = _read_config(sources[0], INDEX).get("force_zeros_for_empty_prompt")
    return Conditioner(
        row,
        texts,
        image=clips[-1] if row.image is not None and len(clips) > len(texts) else None,
        force_zeros=row.negative == "zeros" if force_zeros is None else bool(force_zeros),
        language=_load_language(row, t5),
        language_width=_read_config(sources[0], DENOISER).get("joint_attention_dim"),
    )


def _folders(family: Family) -> list[str]:
    """Folder names of the encoders in a pipeline, the image encoder last."""
    texts = [rule.folder for rule in family.encoders]
    return [*texts, family.image.folder] if family.image else texts


def _list_sources(
    family: Family, encoders: EncoderSource | Sequence[EncoderSource]
) -> list[EncoderSource]:
    """List one source per encoder; an image encoder beside text encoders may be missing."""
    wanted = _folders(family)
    if isinstance(encoders, str | Path | Clip):
        encoders = [encoders]
    found = list(encoders)
    if len(found) == 1 and not isinstance(found[0], Clip) and len(wanted) > 1:
        imaged = family.image is not None and (Path(found[0]) / family.image.folder).is_dir()
        return found * (len(family.encoders) + imaged)
    least = len(family.encoders) or 1
    if not least <= len(found) <= len(wanted):
        names: list[str] = [rule.part for rule in family.encoders]
        names += ["an image encoder"] if family.image else []
        raise ConfigError(
            f"{family.title} takes {' and '.join(names)}, got {len(found)} encoder(s); pass one "
            "source each in this order, or one diffusers folder."
        )
    return found


def _read_config(source: EncoderSource, name: str) -> dict[str, Any]:
    """Read a JSON file of a pipeline folder; empty if there is none."""
    if isinstance(source, Clip) or not (Path(source) / name).is_file():
        return {}
    found = read_json(Path(source) / name)
    return found if isinstance(found, dict) else {}


def _load_language(family: Family, t5: str | Path | None) -> LanguageEncoder | None:
    if t5 is None:
        return None
    if family.language is None:
        raise ConfigError(f"{family.title} does not use T5; leave t5 out.")
    return LanguageEncoder(t5, family.language.length)
