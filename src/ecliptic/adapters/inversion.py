"""Textual inversions: learned vectors that replace their token in a prompt.

Gal et al. 2022, arXiv:2208.01618. `inversion_formats.py` reads the layouts of files,
`inversion_images.py` reads images that contain an inversion.
n vectors of one inversion, D width of the encoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.adapters.files import DIVERGED, find_file, sha256_of
from ecliptic.adapters.inversion_formats import Found, recognise
from ecliptic.adapters.inversion_images import is_image, read_image
from ecliptic.adapters.parts import PARTS, TITLES, part_of_width
from ecliptic.checks import check_choice, check_finite
from ecliptic.errors import ConfigError, CorruptFileError, ShapeError, WeightsMismatchError
from ecliptic.storage import TorchArchive, open_regular, read_tensors

FOLDER_FILES = ("learned_embeds.safetensors", "learned_embeds.bin")  # diffusers' names


@dataclass(frozen=True, eq=False)
class Inversion:
    """One token and its vectors, for each encoder that it was trained with."""

    token: str  # as it is written in prompts
    vectors: Mapping[str, Tensor]  # part -> (n, D) float32; "" if the file names none
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
        check_choice("part", part, PARTS)
        vectors = self.vectors.get(part, self.vectors.get(""))
        if vectors is None or vectors.shape[1] == width:
            return vectors
        raise ShapeError(
            f"{self.token!r} of {self.source} has {_describe_width(vectors.shape[1])}, but {part} "
            f"takes {_describe_width(width)}; use an inversion that was trained for this model."
        )


def read_inversion(path: Path | str, token: str | None = None) -> tuple[Inversion, ...]:
    """Read the inversions of a file: one, or several that a LoRA bundles.

    Reads what A1111, diffusers, kohya, SDXL trainers and ComfyUI write, as PyTorch or safetensors
    files, A1111's images with an inversion inside (PNG, and lossless WebP), and a folder with
    diffusers' `learned_embeds`.

    Args:
        path: the file or folder.
        token: its name in prompts; None takes the name in the file, else the file's stem.

    Raises:
        UnknownModelError: no such file.
        UnsafeFileError: a pickle that asks for more than tensors.
        CorruptFileError: damaged, not a weight file, or vectors that are not finite.
        WeightsMismatchError: not an inversion: several tensors, ill-shaped, or whole numbers.
        ConfigError: a blank token, or one token for several inversions.
    """
    file = find_file(Path(path), FOLDER_FILES, "inversion")
    if token is not None and not token.strip():
        raise ConfigError(
            f"token {token!r} is blank, so it cannot be written in a prompt; give it a name, or "
            "leave it out to use the name in the file."
        )
    found = recognise(_read_content(file), str(file))
    if token is not None and len(found) > 1:
        names = ", ".join(repr(one.name) for one in found[:8])
        raise ConfigError(
            f"{file} bundles {len(found)} inversions ({names}), but token={token!r} names one; "
            "leave the token out to use the names in the file."
        )
    digest = sha256_of(file)
    return tuple(_make_inversion(one, token, file, digest) for one in found)


def _make_inversion(found: Found, token: str | None, file: Path, digest: str) -> Inversion:
    chosen, notes = _choose_token(found, token, file)
    vectors = {part: _check_vectors(part, tensor, file) for part, tensor in found.vectors.items()}
    counts = {part: len(tensor) for part, tensor in vectors.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} for {part}" for part, count in counts.items())
        notes = (*notes, f"the encoders have different numbers of vectors: {listed}")
    return Inversion(chosen, vectors, str(file), digest, found.layout, (*found.notes, *notes))


def _choose_token(found: Found, token: str | None, file: Path) -> tuple[str, tuple[str, ...]]:
    """Choose the token of the inversion, and write notes on the choice."""
    if token is not None:
        return token, ()
    if found.name is None or not found.name.strip():
        return file.stem, (f"the file names no token, so the file's stem {file.stem!r} is used",)
    if found.layout == "a1111" and found.name != file.stem:
        note = (
            f"the token is {found.name!r}, the name in the file; A1111's interface would use the "
            f"file's stem, {file.stem!r}"
        )
        return found.name, (note,)
    return found.name, ()


def _check_vectors(part: str, tensor: Tensor, file: Path) -> Tensor:
    """Check the vectors and copy them: (n, D) float32."""
    what = f"{file}: the vectors{f' for {part}' if part else ''}"
    if not tensor.is_floating_point():
        raise WeightsMismatchError(
            f"{what} are {tensor.dtype}, but must be floating-point numbers."
        )
    rows = tensor[None] if tensor.ndim == 1 else tensor
    if rows.ndim != 2 or not rows.numel():
        raise WeightsMismatchError(
            f"{what} have shape {tuple(tensor.shape)}, but must be (D,) or (n, D), with at least "
            "one vector."
        )
    vectors = torch.empty(rows.shape, dtype=torch.float32).copy_(rows.detach())
    check_finite(vectors, what, DIVERGED, CorruptFileError)
    return vectors


def _read_content(file: Path) -> object:
    """Read the content of `file`, whatever its name: tensors by name, or the tree of a pickle."""
    with open_regular(file, CorruptFileError) as stream:
        start = stream.read(16)
    if is_image(start):
        return read_image(file)
    stored = read_tensors(file)
    return stored.tree if isinstance(stored, TorchArchive) else stored.tensors


def _describe_width(width: int) -> str:
    part = part_of_width(width)
    return f"{width} values per vector" + (f" ({TITLES[part]})" if part else "")
