"""Finds the files of T5 in a folder: its encoder and its tokenizer, which lie side by side.

A diffusers pipeline holds them as `text_encoder_3` and `tokenizer_3` (SD3), or with 2 (FLUX). A
Hugging Face repository of T5 holds both in one folder. Without the files of a tokenizer,
transformers would make up one of 104 tokens, so they are looked for here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ecliptic.diffusion.families import Family, LanguageRule
from ecliptic.errors import ConfigError, MissingExtraError, UnknownModelError
from ecliptic.storage import read_json

CONFIG = "config.json"
VOCABULARIES = ("tokenizer.json", "spiece.model")  # either is enough
CLASSES: Mapping[str, str] = MappingProxyType(  # model_type of a config -> class in transformers
    {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}
)
WEIGHTS = ("*.safetensors", "*.bin")


@dataclass(frozen=True)
class T5Folder:
    """Where the parts of a T5 lie, and the class that reads the encoder."""

    encoder: Path
    tokenizer: Path
    kind: str  # class in transformers


def find_t5(family: Family, pipeline: Path | None, t5: object) -> T5Folder | None:
    """Find the T5 that a conditioner loads; None if it has none.

    Args:
        family: of the conditioner.
        pipeline: folder with all encoders, if there is one.
        t5: what the caller passed: a folder, False for none, or None for that of `pipeline`.

    Raises:
        ConfigError: the family does not use T5, or the folder is of another model or incomplete.
        UnknownModelError: there is no such folder.
    """
    if t5 is None or t5 is False:
        rule = family.language
        if t5 is False or rule is None or pipeline is None:
            return None
        own = pipeline / rule.folder
        return read_folder(own, rule) if (own / CONFIG).is_file() else None
    if family.language is None:
        raise ConfigError(f"{family.title} does not use T5; leave t5 out.")
    if not isinstance(t5, str | Path):
        raise ConfigError(f"t5 must be a folder, False for none, or None, got {t5!r}.")
    if not Path(t5).is_dir():
        raise UnknownModelError(str(t5), fix="t5 must be a Hugging Face folder.")
    return read_folder(Path(t5), family.language)


def read_folder(folder: Path, rule: LanguageRule) -> T5Folder:
    """Find T5 in `folder`: of a pipeline, of its encoder, or of a Hugging Face repository.

    Raises:
        ConfigError: it holds another model, or no weights, or no tokenizer lies there or beside it.
    """
    if not (folder / CONFIG).is_file() and (folder / rule.folder / CONFIG).is_file():
        folder = folder / rule.folder
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{folder} is not a folder of T5: it has neither {CONFIG} nor {rule.folder}; pass the "
            "folder of the T5 encoder, or that of the whole pipeline."
        )
    kind = f"{read_json(folder / CONFIG).get('model_type')}"
    if kind not in CLASSES:
        raise ConfigError(
            f"{folder} is not a T5: its {CONFIG} says {kind!r}, not {' or '.join(CLASSES)}; pass "
            f"{rule.folder} of the pipeline, or another folder of its T5."
        )
    if not any(next(folder.glob(pattern), None) for pattern in WEIGHTS):
        raise ConfigError(
            f"{folder} has no weights; download them (*.safetensors), or pass t5=False."
        )
    return T5Folder(folder, _find_tokenizer(folder), CLASSES[kind])


def _find_tokenizer(folder: Path) -> Path:
    """The folder with the tokenizer of the encoder in `folder`."""
    name = folder.absolute().name
    beside = folder.absolute().parent / name.replace("text_encoder", "tokenizer")
    for one in (folder, beside):
        if any((one / file).is_file() for file in VOCABULARIES):
            return one
    where = folder if beside == folder.absolute() else f"{folder} or beside it in {beside.name}"
    raise ConfigError(
        f"there is no tokenizer of T5 in {where}: a {' or '.join(VOCABULARIES)}; put the model's "
        "own there, or pass the folder of the whole pipeline."
    )


def find_class(library: Any, name: str) -> Any:
    """A class of transformers, which imports it, and all that it needs, when it is first used."""
    try:
        return getattr(library, name)
    except (AttributeError, ImportError) as error:
        raise MissingExtraError(
            f"T5 runs in transformers, which cannot import its {name}: {error} Update or repair "
            "transformers and what it needs, or pass t5=False to leave T5 out, or pass t5= as a "
            "tensor."
        ) from error
