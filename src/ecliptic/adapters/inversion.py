"""Textual inversions: learned vectors that stand in a prompt where their token is written.

Gal et al. 2022, arXiv:2208.01618. The layouts of files are `inversion_formats`', images that
carry one `inversion_images`'. n vectors of one inversion, D width of the encoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.adapters.files import DIVERGED, find_file, read_file, sha256_of
from ecliptic.adapters.inversion_formats import Found, recognise
from ecliptic.adapters.inversion_images import is_image, read_image
from ecliptic.adapters.parts import PARTS, TITLES, part_of_width
from ecliptic.checks import check_finite
from ecliptic.errors import (
    ConfigError,
    CorruptFileError,
    ShapeError,
    WeightsMismatchError,
)

FOLDER_FILES = ("learned_embeds.safetensors", "learned_embeds.bin")  # diffusers' names


@dataclass(frozen=True, eq=False)
class Inversion:
    """One token and the vectors that stand for it, for each encoder it was trained with."""

    token: str  # as it is written in prompts
    vectors: Mapping[str, Tensor]  # part -> (n, D) float32; "" where the file does not say
    source: str  # the file
    sha256: str  # of the file
    layout: str = ""  # "a1111", "diffusers", "kohya", "sdxl", "bundle", "list" or "tensor"
    notes: tuple[str, ...] = ()  # how the token was chosen, and what was left out

    def for_encoder(self, part: str, width: int) -> Tensor | None:
        """(n, D) vectors for an encoder, or None when the file has none for it.

        Args:
            part: "clip_l", "clip_h" or "clip_g".
            width: D of the encoder.

        Raises:
            ConfigError: no such part.
            ShapeError: the vectors have another width, so they belong to another model.
        """
        if part not in PARTS:
            raise ConfigError(f"part must be one of {', '.join(PARTS)}, got {part!r}.")
        vectors = self.vectors.get(part, self.vectors.get(""))
        if vectors is None or vectors.shape[1] == width:
            return vectors
        raise ShapeError(
            f"{self.token!r} of {self.source} has {_title(vectors.shape[1])}, but {part} here "
            f"takes {_title(width)}; use an inversion that was trained for this model."
        )


def read_inversion(path: Path | str, token: str | None = None) -> tuple[Inversion, ...]:
    """The inversions of a file: one, or as many as a LoRA bundles.

    Reads what A1111, diffusers, kohya, SDXL trainers and ComfyUI write, as PyTorch or safetensors
    files, A1111's images with an inversion inside (PNG, and lossless WebP), and a folder with
    diffusers' `learned_embeds`.

    Args:
        path: the file or folder.
        token: what prompts call it; None takes the name in the file, else the file's stem.

    Raises:
        UnknownModelError: no such file.
        UnsafeFileError: a pickle that wants more than tensors.
        CorruptFileError: damaged, no weights at all, or vectors that are not finite.
        WeightsMismatchError: weights, but no inversion: several or ill-shaped or whole numbers.
        ConfigError: an empty token, or one token for several inversions.
    """
    file = find_file(Path(path), FOLDER_FILES, "inversion")
    _check_token(token)
    found = recognise(_content(file), str(file))
    if token is not None and len(found) > 1:
        names = ", ".join(repr(one.name) for one in found[:8])
        raise ConfigError(
            f"{file} bundles {len(found)} inversions ({names}), and token={token!r} names one; "
            "leave the token out, and prompts use the names of the file."
        )
    digest = sha256_of(file)
    return tuple(_inversion(one, token, file, digest) for one in found)


def _inversion(found: Found, token: str | None, file: Path, digest: str) -> Inversion:
    chosen, notes = _token(found, token, file)
    vectors = {part: _checked(part, tensor, file) for part, tensor in found.vectors.items()}
    counts = {part: len(tensor) for part, tensor in vectors.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} for {part}" for part, count in counts.items())
        notes = (*notes, f"another number of vectors for each encoder: {listed}")
    return Inversion(chosen, vectors, str(file), digest, found.layout, (*found.notes, *notes))


def _token(found: Found, token: str | None, file: Path) -> tuple[str, tuple[str, ...]]:
    """What prompts call the inversion, and what has to be said about that choice."""
    if token is not None:
        return token, ()
    if found.name is None or not found.name.strip():
        return file.stem, (f"the file names no token, so it is the file's stem, {file.stem!r}",)
    if found.layout == "a1111" and found.name != file.stem:
        note = (
            f"the token is {found.name!r}, as the file says; A1111's interface would take the "
            f"file's stem, {file.stem!r}"
        )
        return found.name, (note,)
    return found.name, ()


def _check_token(token: str | None) -> None:
    if token is not None and not token.strip():
        raise ConfigError(
            f"token {token!r} has nothing that could be written in a prompt; give it a name, or "
            "leave it out for the name in the file."
        )


def _checked(part: str, tensor: Tensor, file: Path) -> Tensor:
    """(n, D) float32 of its own memory, checked."""
    what = f"{file}: the vectors{f' for {part}' if part else ''}"
    if not tensor.is_floating_point():
        raise WeightsMismatchError(
            f"{what} are {tensor.dtype}, whole numbers or worse; vectors are floating-point."
        )
    rows = tensor[None] if tensor.ndim == 1 else tensor
    if rows.ndim != 2 or not rows.numel():
        raise WeightsMismatchError(
            f"{what} have shape {tuple(tensor.shape)}; an inversion has (D,) or (n, D), with at "
            "least one vector."
        )
    vectors = torch.empty(rows.shape, dtype=torch.float32).copy_(rows.detach())
    check_finite(vectors, what, DIVERGED, CorruptFileError)
    return vectors


def _content(file: Path) -> object:
    """What the file holds, by its first bytes and not by its name."""
    with file.open("rb") as stream:
        start = stream.read(16)
    return read_image(file) if is_image(start) else read_file(file).content


def _title(width: int) -> str:
    part = part_of_width(width)
    return f"{width} values a vector" + (f" ({TITLES[part]})" if part else "")
