"""From names to encoders: `conditioner` finds and loads what a family needs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecliptic.diffusion.conditioners import Conditioner
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.families import Family, family_named
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
    """What turns prompts and images into the tensors of a diffusion model.

    Args:
        family: a row of `FAMILIES`: "sd1", "sdxl", "flux", ...
        encoders: a diffusers folder or single-file checkpoint that holds them all, or one source
            each in the family's order: anything `load` takes, or a loaded `Clip`.
        t5: Hugging Face folder of the T5 encoder of SD3 or FLUX; without one, pass tensors or none.
        force_zeros: whether no negative is zeros instead of the empty prompt; None is what the
            pipeline's own config says, else the family's rule.
        device, precision, offline: as in `load`.

    Raises:
        ConfigError: no such family, or another number of encoders.
        CheckpointError, UnknownModelError: an encoder cannot be loaded.
    """
    row = family_named(family)
    sources = _sources(row, encoders)
    clips = [
        source
        if isinstance(source, Clip)
        else load(source, part=folder, device=device, precision=precision, offline=offline)
        for source, folder in zip(sources, _folders(row), strict=False)  # images are optional
    ]
    texts = tuple(
        TextEncoder(clip, rule, folder=_is_folder(source))
        for clip, rule, source in zip(clips, row.encoders, sources, strict=False)
    )
    if force_zeros is None and row.sizes:
        force_zeros = _read(encoders, INDEX).get("force_zeros_for_empty_prompt")
    return Conditioner(
        row,
        texts,
        image=clips[-1] if row.image is not None and len(clips) > len(texts) else None,
        force_zeros=row.negative == "zeros" if force_zeros is None else bool(force_zeros),
        language=_language(row, t5),
        language_width=_read(encoders, DENOISER).get("joint_attention_dim"),
    )


def _folders(family: Family) -> list[str]:
    """Of the encoders in a pipeline, the image encoder last."""
    texts = [rule.folder for rule in family.encoders]
    return [*texts, family.image.folder] if family.image else texts


def _sources(
    family: Family, encoders: EncoderSource | Sequence[EncoderSource]
) -> list[EncoderSource]:
    """One source for each encoder; an image encoder beside text encoders may be missing."""
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


def _is_folder(source: EncoderSource) -> bool:
    return not isinstance(source, Clip) and Path(source).is_dir()


def _read(encoders: EncoderSource | Sequence[EncoderSource], name: str) -> dict[str, Any]:
    """A JSON file of the one pipeline folder among `encoders`; empty where there is none."""
    source = encoders if isinstance(encoders, str | Path | Clip) else next(iter(encoders), "")
    if isinstance(source, Clip) or not (Path(source) / name).is_file():
        return {}
    found = read_json(Path(source) / name)
    return found if isinstance(found, dict) else {}


def _language(family: Family, t5: str | Path | None) -> LanguageEncoder | None:
    if t5 is None:
        return None
    if family.language is None:
        raise ConfigError(f"{family.title} reads no T5, so t5 means nothing; leave it out.")
    return LanguageEncoder(t5, family.language.length)
