"""`conditioner` finds and loads the encoders of a family."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ecliptic.checks import check_choice
from ecliptic.diffusion.conditioners import Conditioner
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.networks import LoraFiles
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
    loras: LoraFiles | None = None,
    any_size: bool = False,
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
        loras: the files that prompts in A1111's dialect may name as `<lora:name:0.8>`: a mapping
            from name to path, or a folder that is searched for `name.safetensors`.
        any_size: take encoders of sizes that no released model of the family has.
        device, precision, offline: as in `load`.

    Raises:
        ConfigError: an unknown family, the wrong number of encoders, or encoders of sizes that no
            released model of the family has.
        CheckpointError, UnknownModelError: an encoder cannot be loaded.
    """
    check_choice("family", family, FAMILIES)
    row = FAMILIES[family]
    given = [encoders] if isinstance(encoders, str | Path | Clip) else list(encoders)
    sources = _list_sources(row, given)
    clips = [
        source
        if isinstance(source, Clip)
        else load(source, part=folder, device=device, precision=precision, offline=offline)
        for source, folder in zip(sources, _folders(row), strict=False)  # images are optional
    ]
    if len(given) < len(sources):
        _check_shared(row, clips[0])
    texts = tuple(
        TextEncoder(clip, rule, folder=_is_folder(source), any_size=any_size)
        for clip, rule, source in zip(clips, row.encoders, sources, strict=False)
    )
    image = clips[-1] if row.image is not None and len(clips) > len(texts) else None
    _check_image(row, image, any_size=any_size)
    return Conditioner(
        row,
        texts,
        image=image,
        force_zeros=_choose_zeros(row, sources[0], force_zeros),
        language=_load_language(row, t5),
        language_width=_read_config(sources[0], DENOISER).get("joint_attention_dim"),
        any_size=any_size,
        loras=loras,
    )


def _choose_zeros(family: Family, source: EncoderSource, given: bool | None) -> bool:
    """Whether zeros stand for a missing negative: as given, as in the pipeline, or as usual."""
    if given is None and family.sizes:
        given = _read_config(source, INDEX).get("force_zeros_for_empty_prompt")
    return family.negative == "zeros" if given is None else bool(given)


def _is_folder(source: EncoderSource) -> bool:
    return not isinstance(source, Clip) and Path(source).is_dir()


def _check_shared(family: Family, first: Clip) -> None:
    """Raise ConfigError unless the one source that was given holds all encoders of the family."""
    if first.card.layout != "diffusers":
        raise ConfigError(
            f"{_name_encoders(family)}, but {first.card.name} is a single encoder; pass one "
            "source each in this order, or a diffusers folder or checkpoint that holds them all."
        )


def _check_image(family: Family, clip: Clip | None, *, any_size: bool) -> None:
    """Raise ConfigError unless a released model of the family reads vectors of this size."""
    rule = family.image
    if rule is None or clip is None or any_size:
        return
    if (size := clip.card.embed) not in rule.embeds:
        raise ConfigError(
            f"{clip.card.name} gives image vectors of {size} values, but released models of "
            f"{family.title} read {' or '.join(map(str, rule.embeds))}; pass the model's own image "
            "encoder, or any_size=True (--any-size) for a model of other sizes."
        )


def _folders(family: Family) -> list[str]:
    """Folder names of the encoders in a pipeline, the image encoder last."""
    texts = [rule.folder for rule in family.encoders]
    return [*texts, family.image.folder] if family.image else texts


def _list_sources(family: Family, given: list[EncoderSource]) -> list[EncoderSource]:
    """List one source per encoder; an image encoder beside text encoders may be missing."""
    wanted = _folders(family)
    if len(given) == 1 and not isinstance(given[0], Clip) and len(wanted) > 1:
        imaged = family.image is not None and (Path(given[0]) / family.image.folder).is_dir()
        return given * (len(family.encoders) + imaged)
    least = len(family.encoders) or 1
    if not least <= len(given) <= len(wanted):
        raise ConfigError(
            f"{_name_encoders(family)}, got {len(given)} encoder(s); pass one source each in this "
            "order, or one diffusers folder."
        )
    return given


def _name_encoders(family: Family) -> str:
    names: list[str] = [rule.part for rule in family.encoders]
    names += ["an image encoder"] if family.image else []
    return f"{family.title} takes {' and '.join(names)}"


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
