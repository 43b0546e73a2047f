"""Reads LoRA files for the text encoders, and those of its relatives: DoRA, LoHa, LoKr, IA3.

`lora_keys.py` reads the names of tensors, `lora_methods.py` the tensors of a module,
`lora_changes.py` has the formulas, and `lora_stack.py` merges into a tower.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ecliptic.adapters.files import find_file, sha256_of
from ecliptic.adapters.lora_alphas import Alphas, read_alphas, scaling_of
from ecliptic.adapters.lora_changes import WeightChange
from ecliptic.adapters.lora_keys import PROJECTION, Place, is_other, is_t5, place_of
from ecliptic.adapters.lora_methods import ModuleTensors, find_problem, read_changes
from ecliptic.errors import WeightsMismatchError
from ecliptic.storage import TensorFile, parse_json, read_tensors, read_text

CONFIG, ADAPTER = "adapter_config.json", "adapter_model"  # PEFT's settings beside its weights
METADATA = "lora_adapter_metadata"  # the same settings in the file itself, by diffusers
FOLDER_FILES = (
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.bin",
)


@dataclass(frozen=True, eq=False)
class Lora:
    """The content of a LoRA file for the text encoders; ".bias" ends the module of a bias."""

    layers: Mapping[
        tuple[str, str], WeightChange
    ]  # (part, module): ("clip_g", "blocks.3.attention.q")
    other: tuple[str, ...]  # keys of denoisers, T5 and bundled inversions
    unused: Mapping[str, str]  # keys of text encoders that cannot be used -> why
    source: str  # the file
    sha256: str  # of the file, and of the settings beside it
    notes: tuple[str, ...] = ()

    @property
    def t5(self) -> tuple[str, ...]:
        """The keys of `other` that belong to a T5 encoder."""
        return tuple(key for key in self.other if is_t5(key))

    @property
    def parts(self) -> tuple[str, ...]:
        """The encoders it changes: "clip_l", "clip_g", "" for the first or only one."""
        return tuple(sorted({part for part, _ in self.layers}))


def read_lora(path: Path | str) -> Lora:
    """Read a file of kohya, LyCORIS, OneTrainer, diffusers (both schemes) or PEFT, or a folder.

    LoRA, DoRA, LoHa, LoKr, GLoRA, IA3, and full differences of weights, biases and norms. Each key
    is matched on its own, so a file with only some of the modules is applied fully.

    Args:
        path: a safetensors or PyTorch file, or a folder with PEFT's or diffusers' files.

    Raises:
        UnknownModelError: no such file.
        UnsafeFileError: a pickle that asks for more than tensors.
        CorruptFileError: damaged, not a weight file, or weights that are not finite.
        WeightsMismatchError: not a LoRA, half of a pair missing, or a pair with two ranks.
        UnsupportedLayoutError: the settings beside it are of a method that cannot be merged.
    """
    file = find_file(Path(path), FOLDER_FILES, "LoRA")
    stored = read_tensors(file)
    metadata = stored.metadata if isinstance(stored, TensorFile) else {}
    beside = file.with_name(CONFIG)
    config = read_text(beside) if file.stem == ADAPTER and beside.is_file() else ""
    alphas = read_alphas(
        parse_json(config or "{}", f"{beside}"),
        parse_json(metadata.get(METADATA) or "{}", f"{file}: its {METADATA}"),
    )
    other, places, unused = _sort_keys(stored.tensors)
    layers = _read_layers(stored.tensors, places, unused, alphas, str(file))
    if not layers and not other and not places and not any("lora" in key for key in unused):
        names = ", ".join(list(stored.tensors)[:3]) or "none"
        raise WeightsMismatchError(
            f"{file} is not a LoRA: none of its {len(stored.tensors)} tensors ({names}) is a "
            "low-rank change of a known layer."
        )
    notes = () if layers else ("nothing in it is for a text encoder",)
    return Lora(layers, other, unused, str(file), sha256_of(file, config.encode()), notes)


def _sort_keys(
    tensors: Mapping[str, Tensor],
) -> tuple[tuple[str, ...], dict[str, Place], dict[str, str]]:
    """Sort keys into those of other models, places, and unknown ones with the reason."""
    other = tuple(key for key in tensors if is_other(key))
    places: dict[str, Place] = {}
    unused: dict[str, str] = {}
    for key in sorted(tensors.keys() - set(other)):
        place = place_of(key)
        if isinstance(place, Place):
            places[key] = place
        else:
            unused[key] = place
    return other, places, unused


def _read_layers(
    tensors: Mapping[str, Tensor],
    places: Mapping[str, Place],
    unused: dict[str, str],
    alphas: Alphas,
    where: str,
) -> dict[tuple[str, str], WeightChange]:
    """Read the changes of every module; add unusable keys to `unused` with the reason."""
    modules: dict[tuple[str, str], dict[str, str]] = {}  # slot -> key
    for key, place in places.items():
        slots = modules.setdefault((place.part, place.module), {})
        if (before := slots.setdefault(place.slot, key)) != key:
            raise WeightsMismatchError(
                f"{where}: {before} and {key} mean the same tensor; keep one of them."
            )
    layers: dict[tuple[str, str], WeightChange] = {}
    for (part, module), slots in modules.items():
        if reason := find_problem(slots, tensors):
            unused.update(dict.fromkeys(slots.values(), reason))
            continue
        scaling = scaling_of(alphas, part, module)
        found = ModuleTensors(slots, tensors, where, scaling, biased=module != PROJECTION)
        for end, change in read_changes(found).items():
            layers[part, module + end] = change
    return layers
