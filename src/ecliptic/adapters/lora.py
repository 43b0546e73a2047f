"""Reads LoRA files for the text encoders: low-rank changes of linear layers.

Hu et al. 2021, arXiv:2106.09685, section 4.1: W + scale (alpha / rank) up @ down. `lora_keys.py`
reads the names of tensors, `lora_stack.py` merges LoRAs into a tower.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from ecliptic.adapters.files import DIVERGED, find_file, sha256_of
from ecliptic.adapters.lora_alphas import Alphas, alpha_of, read_alphas
from ecliptic.adapters.lora_keys import Place, is_other, method_of, place_of
from ecliptic.checks import check_finite
from ecliptic.errors import CorruptFileError, WeightsMismatchError
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
class LowRank:
    """The change of one linear layer: alpha / rank * up @ down."""

    up: Tensor  # (out, rank), as stored
    down: Tensor  # (rank, in), as stored
    alpha: float  # the rank if the file has none
    key: str  # of `down` in the file

    @property
    def rank(self) -> int:
        """Rows of `down`."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of the layer that it changes."""
        return self.up.shape[0], self.down.shape[1]

    def delta(self, like: Tensor, scale: float) -> Tensor:
        """(out, in) float32 on the device of `like`: what is added to the weight."""
        up, down = self.up.to(like.device).float(), self.down.to(like.device).float()
        return (up @ down) * (scale * self.alpha / self.rank)


@dataclass(frozen=True, eq=False)
class Lora:
    """The content of a LoRA file for the text encoders."""

    layers: Mapping[tuple[str, str], LowRank]  # (part, module): ("clip_g", "blocks.3.attention.q")
    other: tuple[str, ...]  # keys of denoisers, T5 and bundled inversions
    unused: Mapping[str, str]  # keys of text encoders that cannot be used -> why
    source: str  # the file
    sha256: str  # of the file, and of the settings beside it
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The encoders it changes: "clip_l", "clip_g", "" for the first or only one."""
        return tuple(sorted({part for part, _ in self.layers}))


def read_lora(path: Path | str) -> Lora:
    """Read the LoRA in a file of kohya, OneTrainer, diffusers (both schemes) or PEFT, or a folder.

    Each key is matched on its own, so a file with only some of the modules is applied fully.

    Args:
        path: a safetensors or PyTorch file, or a folder with PEFT's or diffusers' files.

    Raises:
        UnknownModelError: no such file.
        UnsafeFileError: a pickle that asks for more than tensors.
        CorruptFileError: damaged, not a weight file, or weights that are not finite.
        WeightsMismatchError: not a LoRA, half of a pair missing, or a pair with two ranks.
        UnsupportedLayoutError: the settings beside it are of another method.
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
    if not layers and not other and not any("lora" in key for key in unused):
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
) -> dict[tuple[str, str], LowRank]:
    """Check the pairs; add unusable keys to `unused` with the reason."""
    modules: dict[tuple[str, str], dict[str, str]] = {}  # slot -> key
    for key, place in places.items():
        slots = modules.setdefault((place.part, place.module), {})
        if (before := slots.setdefault(place.slot, key)) != key:
            raise WeightsMismatchError(
                f"{where}: {before} and {key} mean the same tensor; keep one of them."
            )
    layers = {}
    for (part, module), slots in modules.items():
        if reason := _find_problem(slots, tensors):
            unused.update(dict.fromkeys(slots.values(), reason))
            continue
        layer = _make_low_rank(slots, tensors, where)
        alpha = None if "alpha" in slots else alpha_of(alphas, part, module, layer.rank)
        layers[part, module] = layer if alpha is None else replace(layer, alpha=alpha)
    return layers


def _find_problem(slots: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str | None:
    """Say why the tensors of one module cannot be used, or return None."""
    if method := next((name for slot in slots if (name := method_of(slot))), None):
        return f"{method}, which is not plain LoRA; its module is not changed"
    matrices = [slots[slot] for slot in ("down", "up") if slot in slots]
    if not matrices:
        return "an alpha without its matrices"
    if any(tensors[key].ndim == 4 for key in matrices):
        return "weights of a convolution, but CLIP's text layers are linear"
    return None


def _make_low_rank(slots: Mapping[str, str], tensors: Mapping[str, Tensor], where: str) -> LowRank:
    for slot, partner in (("down", "up"), ("up", "down")):
        if slot not in slots:
            raise WeightsMismatchError(
                f"{where}: {slots[partner]} has no partner {slot!r}, and one half of a pair "
                "changes nothing; the file is incomplete, fetch or save it again."
            )
    for key in slots.values():
        _check_tensor(key, tensors[key], where)
    up, down = tensors[slots["up"]], tensors[slots["down"]]
    if up.shape[1] != down.shape[0]:
        raise WeightsMismatchError(
            f"{where}: {slots['up']} {tuple(up.shape)} and {slots['down']} {tuple(down.shape)} "
            f"have the ranks {up.shape[1]} and {down.shape[0]}; up is (out, rank), down (rank, in)."
        )
    alpha = float(tensors[slots["alpha"]]) if "alpha" in slots else float(down.shape[0])
    return LowRank(up, down, alpha, slots["down"])


def _check_tensor(key: str, tensor: Tensor, where: str) -> None:
    alpha = key.endswith("alpha")
    if (tensor.numel() != 1) if alpha else (tensor.ndim != 2 or not tensor.numel()):
        wanted = "one number" if alpha else "a matrix"
        raise WeightsMismatchError(f"{where}: {key} is {tuple(tensor.shape)}, not {wanted}.")
    if not alpha and not tensor.is_floating_point():
        raise WeightsMismatchError(f"{where}: {key} is {tensor.dtype}, not floating-point.")
    check_finite(tensor, f"{where}: {key}", DIVERGED, CorruptFileError)
