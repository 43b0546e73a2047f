"""`conditioner` finds and loads the encoders of a family."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Never

from ecliptic.checks import check_choice
from ecliptic.diffusion.conditioners import Conditioner
from ecliptic.diffusion.encode.encoders import TextEncoder
from ecliptic.diffusion.encode.networks import LoraFiles
from ecliptic.diffusion.families import FAMILIES, Family
from ecliptic.diffusion.foreign_names import names_of, refuse_unknown
from ecliptic.diffusion.language_encoder import LanguageEncoder
from ecliptic.diffusion.recognition.pipelines import INDEX, check_family, recognise_family
from ecliptic.diffusion.recognition.without_clip import explain_missing_family
from ecliptic.diffusion.t5_folder import T5Folder, find_t5
from ecliptic.engine import DTYPES, Clip, Precision, load
from ecliptic.errors import ConfigError
from ecliptic.storage import read_json

EncoderSource = str | Path | Clip  # anything `load` takes, or what it returned
DENOISER = "transformer/config.json"  # of a diffusers pipeline of SD3


def conditioner(
    family: str | Path,
    encoders: EncoderSource | Sequence[EncoderSource] | None = None,
    *,
    t5: str | Path | Literal[False] | None = None,
    force_zeros_for_empty_prompt: bool | None = None,
    loras: LoraFiles | None = None,
    any_size: bool = False,
    device: str = "auto",
    precision: Precision = "auto",
    kernels: Literal["auto", "plain"] = "auto",
    offline: bool | None = None,
    **unknown: Never,
) -> Conditioner:
    """Load a conditioner, which turns prompts and images into tensors of a diffusion model.

    `conditioner(folder)` reads a diffusers pipeline and finds its family, encoders and T5.

    Args:
        family: a row of `FAMILIES`: "sd1", "sdxl", "flux", ...; or the folder of a pipeline,
            without `encoders`.
        encoders: a diffusers folder or single-file checkpoint with all of them, or one source
            each in the family's order: anything `load` takes, or a loaded `Clip`.
        t5: T5 of SD3 or FLUX, which needs transformers. None: that of the pipeline, if
            `encoders` is a folder that holds it. A folder: of the encoder, its tokenizer inside
            or beside it, or of a whole pipeline. False: none, to save memory. Without T5, calls
            may pass its tensors.
        force_zeros_for_empty_prompt: use zeros, not the empty prompt, if no negative is given;
            None: as in the config of the pipeline, else the family's rule.
        loras: the files that prompts in A1111's dialect may name as `<lora:name:0.8>`: a mapping
            from name to path, or a folder that is searched for `name.safetensors`.
        any_size: take encoders of sizes that no released model of the family has.
        device, precision, offline: as in `load`, but for int8 and fp8, whose promise is about
            vectors, not hidden states.
        kernels: as in `load`; "plain" gives the same bits in every call, "auto" the same up to
            rounding. Hidden states are never compiled.
        **unknown: none; names of diffusers' arguments are answered with ours.

    Raises:
        ConfigError: an unknown family, a folder of another family, the wrong number of encoders,
            int8, unknown kernels or loaded encoders without those, or encoders of sizes that no
            released model of the family has.
        CheckpointError, UnknownModelError: an encoder cannot be loaded.
    """
    refuse_unknown(unknown, names_of(conditioner))
    row, given = _find_family(family, encoders)
    forced = _check_flag("force_zeros_for_empty_prompt", force_zeros_for_empty_prompt)
    pipeline = _find_pipeline(given)
    if pipeline is not None:
        check_family(row, pipeline)
    t5_folder = find_t5(row, pipeline, t5)
    sources = _list_sources(row, given)
    _check_kernels(kernels, sources)
    how = {"device": device, "kernels": kernels, "offline": offline}
    clips = _load_all(row, sources, how | {"precision": _check_precision(precision, sources)})
    if len(given) < len(sources):
        _check_shared(row, clips[0])
    texts, image = _give_roles(row, clips, sources, any_size=any_size)
    return Conditioner(
        row,
        texts,
        image=image,
        force_zeros_for_empty_prompt=_choose_zeros(row, pipeline, forced),
        language=t5 is not False and _load_t5(row, t5_folder, clips[0], precision),
        language_width=_read_config(pipeline, DENOISER).get("joint_attention_dim"),
        any_size=any_size,
        loras=loras,
    )


def _load_all(family: Family, sources: list[EncoderSource], how: dict[str, Any]) -> list[Clip]:
    """The encoders; those that are loaded already stay as they are."""
    return [
        source if isinstance(source, Clip) else load(source, part=folder, **how)
        for source, folder in zip(sources, _folders(family), strict=False)  # images are optional
    ]


def _give_roles(
    family: Family, clips: list[Clip], sources: list[EncoderSource], *, any_size: bool
) -> tuple[list[TextEncoder], Clip | None]:
    """The text encoders of the family, and its image encoder if there is one."""
    texts = [
        TextEncoder(clip, rule, folder=_is_folder(source), any_size=any_size)
        for clip, rule, source in zip(clips, family.encoders, sources, strict=False)
    ]
    image = clips[-1] if family.image is not None and len(clips) > len(texts) else None
    _check_image(family, image, any_size=any_size)
    return texts, image


def _find_family(
    family: str | Path, encoders: EncoderSource | Sequence[EncoderSource] | None
) -> tuple[Family, list[EncoderSource]]:
    """The family, and the sources of its encoders as they were given."""
    why = None if family in FAMILIES else explain_missing_family(f"{family}")
    if why is not None and not Path(family).exists():
        raise ConfigError(why)
    if encoders is None and isinstance(family, str | Path) and family not in FAMILIES:
        return recognise_family(family), [family]
    check_choice("family", family, FAMILIES)
    row = FAMILIES[f"{family}"]
    if encoders is None:
        raise ConfigError(
            f'{_name_encoders(row)}; pass them, as in conditioner("{family}", folder), or '
            f'"./{family}" for a folder of that name.'
        )
    return row, [encoders] if isinstance(encoders, str | Path | Clip) else list(encoders)


def _find_pipeline(given: list[EncoderSource]) -> Path | None:
    """The folder of a diffusers pipeline that was given for all encoders."""
    if len(given) != 1 or isinstance(given[0], Clip):
        return None
    folder = Path(given[0])
    return folder if (folder / INDEX).is_file() else None


def _check_flag(name: str, value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f"{name} must be True, False or None, got {value!r}.")
    return value


def _choose_zeros(family: Family, pipeline: Path | None, given: bool | None) -> bool:
    """Whether zeros stand for a missing negative: as given, as in the pipeline, or as usual."""
    if given is None and family.sizes:
        given = _read_config(pipeline, INDEX).get("force_zeros_for_empty_prompt")
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
            "encoder, or any_size=True for a model of other sizes."
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


def _check_precision(precision: Precision, sources: Iterable[object]) -> Precision:
    """The precision to load in; never int8, which "auto" is for a file with int8 layers, or fp8."""
    given = [source for source in sources if isinstance(source, Clip)]
    asked = str(precision).removeprefix("torch.")  # `torch.int8` is "int8" too
    used = [asked, *(clip.card.precision for clip in given)]
    if found := next((one for one in used if one in ("int8", "fp8")), None):
        raise ConfigError(
            f"{found} was compared with other precisions by vectors, not by the hidden states that "
            'a diffusion model reads; load the encoders with precision="fp32" or "bf16".'
        )
    return "fp32" if precision == "auto" else precision


def _check_kernels(kernels: str, sources: Iterable[object]) -> None:
    """Refuse other kernels, and a loaded encoder that has other ones than are asked for."""
    check_choice("kernels", kernels, ("auto", "plain"))
    for clip in (source for source in sources if isinstance(source, Clip)):
        if kernels == "plain" != clip.runtime.kernels:
            raise ConfigError(
                f'{clip.card.name} is loaded already, with kernels="{clip.runtime.kernels}"; load '
                'it with kernels="plain", or pass its path.'
            )


def _name_encoders(family: Family) -> str:
    names: list[str] = [rule.part for rule in family.encoders]
    names += ["an image encoder"] if family.image else []
    return f"{family.title} takes {' and '.join(names)}"


def _read_config(pipeline: Path | None, name: str) -> dict[str, Any]:
    """Read a JSON file of a pipeline folder; empty if there is none."""
    if pipeline is None or not (pipeline / name).is_file():
        return {}
    return read_json(pipeline / name)


def _load_t5(
    family: Family, folder: T5Folder | None, clip: Clip, precision: Precision
) -> LanguageEncoder | None:
    """Load T5 to where `clip` is."""
    if folder is None or family.language is None:
        return None
    dtype = None if precision == "auto" else DTYPES.get(clip.card.precision)
    return LanguageEncoder(folder, family.language.length, device=clip.device, dtype=dtype)
