"""The tensors of one prompt in a safetensors file, under the names that a diffusers pipeline uses.

What a pipeline takes and is no tensor, and what the tensors are of, stand as JSON in the metadata
under `ecliptic`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ecliptic.diffusion.cache_keys import canonical, finite
from ecliptic.diffusion.conditioning import Conditioning
from ecliptic.errors import InputError, NumericalError
from ecliptic.storage import replace_file, write_safetensors


def save_conditioning(
    conditioning: Conditioning, path: Path | str, about: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Write `conditioning.to_diffusers()`, whole or not at all; the names of its tensors.

    Args:
        conditioning: of one call.
        path: file to write; what is there is replaced.
        about: more for the metadata, as JSON values.

    Raises:
        ConfigError: there is more than one set of tensors, under AND or over the steps.
        InputError: the family has no tensors for these inputs.
        NumericalError: a value is NaN or infinite.
        StorageError: nothing can be written there.
    """
    path = Path(path)
    given = conditioning.to_diffusers()
    tensors = dict(_tensors(given))
    if not tensors:
        raise InputError(
            f"{conditioning.family.title} has no tensors for these inputs; pass what it reads."
        )
    if bad := [name for name, tensor in tensors.items() if not finite(tensor)]:
        raise NumericalError(f"{', '.join(bad)} holds NaN or infinity; nothing is written.")
    others = {name: value for name, value in given.items() if not list(_tensors({name: value}))}
    facts = {"family": conditioning.family.name, "other": others, **(about or {})}
    metadata = {"format": "pt", "ecliptic": canonical(facts).decode()}
    replace_file(path, lambda draft: write_safetensors(draft, tensors, metadata))
    return tuple(tensors)


def _tensors(given: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors among a pipeline's arguments; those of a list are numbered: `name.0`."""
    found: list[tuple[str, Tensor]] = []
    for name, value in given.items():
        if isinstance(value, Tensor):
            found.append((name, value.detach().cpu().clone().contiguous()))
        elif isinstance(value, list | tuple):
            found += _tensors({f"{name}.{place}": item for place, item in enumerate(value)})
    return found
