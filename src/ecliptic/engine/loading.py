"""Loading in four steps: locate, read, build, place."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, Hints, locate, read
from ecliptic.checks import check_choice, check_count
from ecliptic.engine.cache import EmbeddingCache
from ecliptic.engine.card import Card
from ecliptic.engine.clip import Clip
from ecliptic.engine.quantising import (
    find_bound,
    find_float8_layers,
    find_quantisation,
    search_note,
    stored_int8,
)
from ecliptic.errors import ConfigError, warn
from ecliptic.inputs import Exactness, ImageSpec, Preprocess, PreprocessMode, TokenizerSpec
from ecliptic.model import Activation, CodedWeight, TwoTowers, build, ordinary, resize_positions
from ecliptic.runtime import KernelMode, PrecisionName, Runtime, find_numerics
from ecliptic.storage import copy_out, release

Precision: TypeAlias = (
    PrecisionName
    | Literal["int8", "fp8", "float32", "float", "bfloat16", "float16", "half"]
    | torch.dtype
)
MINI = Path(__file__).with_name("mini")  # the embedded model


@torch.inference_mode(False)  # PyTorch counts no writes to tensors of inference mode
def load(
    source: str | Path = "mini",
    *,
    device: str = "auto",
    precision: Precision = "auto",
    min_cosine: float | None = None,
    kernels: KernelMode = "auto",
    preprocess: PreprocessMode | Preprocess | None = None,
    pixels: Exactness | None = None,
    image_size: int | None = None,
    part: str | None = None,
    activation: Activation | None = None,
    heads: int | tuple[int, int] | None = None,
    image_spec: ImageSpec | None = None,
    tokenizer_spec: TokenizerSpec | None = None,
    cache: Path | str | EmbeddingCache | None = None,
    offline: bool | None = None,
    revision: str | None = None,
    notify: Callable[[str], None] | None = None,
) -> Clip:
    """Load a CLIP, ready to encode.

    Args:
        source: "mini" (embedded, no download; a folder of that name is "./mini"), a catalog name
            "ARCH/TAG", a file or folder of any layout, or "hf:org/name". Files and folders need no
            network.
        device: "cpu", "cuda", "mps", ...; "auto" is CUDA if there is one, else CPU.
        precision: of the weights: "fp32", "bf16" or "fp16", also as torch spells them ("float16",
            `torch.float16`); "auto" is fp32, or int8 for a file that holds int8 layers. "int8" is
            quicker on CPUs; a model without int8 layers is calibrated first on bundled drawings
            and prompts: 5 seconds for "mini", 2 to 3 minutes for ViT-B/32 on one core.
            `ecliptic convert --precision int8` does it once, also on images and texts of yours.
            "fp8" is for NVIDIA GPUs since Ada and Hopper, best with `kernels="compiled"`: bf16
            weights, whose linear layers are computed in 8-bit floats.
        min_cosine: for int8 and fp8, the smallest cosine of any compared vector with that of fp32
            (fp8: of bf16), by default 0.9998 (0.999): layers are kept as they are until it holds.
        kernels: "auto" measures once on each machine which operators are quickest, and uses those;
            they may copy the weights of linear layers, which a model that is not used in its
            stored precision then holds twice;
            "plain" uses PyTorch's own, the same ones on every machine; "compiled" compiles whole
            towers with `torch.compile`, for vectors in large numbers, above all on GPUs.
        preprocess: "reference" reproduces the released numbers bit for bit; "robust" first turns
            images upright, puts white behind transparency and scales 16 bit; both are the same for
            plain RGB. Or a `Preprocess` of your own. None is "robust" for the embedded model, which
            has no released numbers, and "reference" for all others.
        image_size: another size than the trained one; position embeddings are interpolated.
        part: which encoder of a diffusion pipeline ("text_encoder", "clip_g", ...).
        activation: "gelu" or "quick_gelu", for files that do not state it.
        heads: attention heads of both towers, or (image, text), for files that do not state them.
        image_spec: size, mean, std and resize, for files that do not state them.
        tokenizer_spec: merges, context and padding, for files that do not state them.
        cache: folder for a cache of vectors, so that no item is encoded twice.
        offline: True forbids the network; None uses the hub's own setting.
        revision: branch, tag or commit of a hub repository.
        notify: told what will take long: the search for int8 or fp8 layers.

    Raises:
        UnknownModelError: no model, file or folder is called `source`.
        AmbiguousCheckpointError: the file does not state a setting; the message names the argument.
        CheckpointError: its other subclasses say what is wrong with the file or download.
        ConfigError: no such device, precision or preprocessing, or an impossible size; int8 or fp8
            on a device that has none, `min_cosine` without them or above that of the file.
    """
    target = resolve_device(device)  # check first what needs no file and no download
    check_choice("kernels", kernels, get_args(KernelMode))
    if isinstance(precision, torch.dtype):
        precision = str(precision).removeprefix("torch.")  # type: ignore[assignment]
    bound = find_bound(precision, min_cosine, target, kernels)
    usual = {"int8": "fp32", "fp8": "bf16"}.get(str(precision), precision)
    numerics = find_numerics(usual, others=("int8", "fp8"))
    hints = Hints(part, activation, heads, image_spec, tokenizer_spec)
    checkpoint = open_checkpoint(source, hints, offline=offline, revision=revision)
    if image_size is not None:
        checkpoint = resize(checkpoint, image_size)
    mode: PreprocessMode = "robust" if source == "mini" else "reference"
    prepare = choose_preprocess(checkpoint, preprocess or mode, pixels)
    stored = stored_int8(checkpoint, precision, min_cosine, target)
    model = build_model(checkpoint, numerics.weights, target, coded=stored is not None)
    runtime = Runtime(model, numerics.name, target, kernels, stored)
    card = make_card(checkpoint, prepare, runtime)
    cache = EmbeddingCache(cache) if isinstance(cache, str | Path) else cache
    clip = Clip(runtime, card, checkpoint, prepare, cache)
    return clip if bound is None or stored else _reduce(clip, str(precision), bound, notify)


def _reduce(clip: Clip, precision: str, bound: float, notify: Callable[[str], None] | None) -> Clip:
    """`clip` with the int8 or fp8 layers that keep the bound; they are searched for."""
    if notify is not None:
        known = "; a model that was saved with them needs no search"
        notify(search_note(precision) + known * (precision == "int8"))
    find = find_quantisation if precision == "int8" else find_float8_layers
    return clip.quantised(find(clip, bound))


def make_card(checkpoint: Checkpoint, prepare: Preprocess | None, runtime: Runtime) -> Card:
    """Describe the checkpoint as it runs, with the preprocessing in use."""
    calibration, notes = checkpoint.calibration, checkpoint.notes
    if calibration and prepare and prepare.spec != checkpoint.image_spec:
        calibration = None
        notes = (*notes, "the calibration is not used: images are prepared in another way")
    return Card(
        name=checkpoint.name,
        layout=checkpoint.layout,
        config=checkpoint.config,
        image_spec=prepare.spec if prepare else None,
        tokenizer_spec=checkpoint.tokenizer_spec,
        preprocess=prepare.fingerprint_fields() if prepare else {},
        precision=runtime.precision,
        device=str(runtime.model.logit_scale.device),
        calibration=calibration,
        notes=notes,
        weights=checkpoint.weights,
        quantisation=runtime.quantisation,
        widened=runtime.widened,
    )


def open_checkpoint(
    source: str | Path,
    hints: Hints | None = None,
    *,
    offline: bool | None = None,
    revision: str | None = None,
) -> Checkpoint:
    """Locate and read the checkpoint called `source`; no model is built."""
    hints = hints or Hints()
    if source == "mini":  # a folder of that name is "./mini"
        return _note_unused(read(MINI, hints), hints.part, revision)
    found = locate(source, offline=offline, revision=revision)
    if found.path != Path(source).expanduser():  # it is in the hub's cache
        revision = None
    return _note_unused(read(found.path, hints, found.row), hints.part, revision)


def _note_unused(checkpoint: Checkpoint, part: str | None, revision: str | None) -> Checkpoint:
    """Note a `part` or a `revision` that has no effect."""
    notes = []
    if part is not None and checkpoint.layout != "diffusers":
        notes.append(f"part={part!r} was not used: this is not a diffusion checkpoint")
    if revision is not None:
        notes.append(f"revision={revision!r} was not used: this is not a repository of the hub")
    return replace(checkpoint, notes=(*checkpoint.notes, *notes))


def build_model(
    checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device, *, coded: bool = False
) -> TwoTowers:
    """A model in eval mode; it uses the checkpoint's own tensors where they need no copy.

    `coded` weights of int8 layers stay so; by default they become ordinary tensors.
    """
    model = build(checkpoint.config)
    weights = {}
    for name, weight in checkpoint.weights.items():
        if coded and isinstance(weight, CodedWeight):
            weights[name] = weight.parameter()
        else:
            wanted = torch.float32 if name == "logit_scale" else dtype
            weights[name] = _place(ordinary(weight), wanted, device)
    if model.image is None or model.text is None:
        weights.setdefault("logit_scale", torch.tensor(0.0))  # a checkpoint of one tower has none
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def _place(weight: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Cast and move one weight; a copied weight gives back the pages of its file."""
    wanted = dtype if weight.is_floating_point() else weight.dtype
    if device.type == weight.device.type == "cpu":
        return weight if weight.dtype == wanted else copy_out(weight, wanted)
    placed = weight.to(device, wanted)
    release(weight)
    return placed


def resolve_device(device: str) -> torch.device:
    """The device called `device`; "auto" is CUDA if there is one, else CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):  # torch lists all that it was ever compiled for
        raise ConfigError(
            f"no device is called {device!r}; use 'cpu', 'cuda', 'cuda:1', 'mps' or 'auto'."
        ) from None
    try:
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {str(device)!r} cannot be used: {reason.rstrip('.')}; try 'cpu' or 'auto'."
        ) from None
    return found


def resize(checkpoint: Checkpoint, size: int) -> Checkpoint:
    """Change the image size of a checkpoint; its position embeddings are interpolated.

    Raises:
        ConfigError: the size does not fit the patches, or there is no image tower.
    """
    image, spec = checkpoint.config.image, checkpoint.image_spec
    if image is None or spec is None:
        raise ConfigError(f"{checkpoint.name} has no image side; leave image_size out.")
    if image.image_size == size:
        return checkpoint
    resized = replace(image, image_size=check_count("image_size", size))
    name = "image.positions" if "image.positions" in checkpoint.weights else "image.pool.positions"
    weights: Mapping[str, Tensor] = {
        **checkpoint.weights,
        name: resize_positions(checkpoint.weights[name], resized.grid),
    }
    note = f"position embeddings interpolated from {image.image_size} to {size} pixels (bicubic)"
    if checkpoint.quantisation:
        note += "; the int8 layers are not used, they are those of the other size"
    return replace(
        checkpoint,
        config=replace(checkpoint.config, image=resized),
        weights=weights,
        image_spec=replace(spec, size=size),
        calibration=None,  # fitted at the trained size
        quantisation=None,
        notes=(*checkpoint.notes, note),
    )


def choose_preprocess(
    checkpoint: Checkpoint, preprocess: PreprocessMode | Preprocess, pixels: Exactness | None = None
) -> Preprocess | None:
    """The preprocessing to use: the given one, or the checkpoint's; None without an image tower.

    Raises:
        ConfigError: an unknown mode, pixels of a size that the image tower does not take, or
            `pixels` that are not those of the given preprocessing.
    """
    if checkpoint.image_spec is None:
        return None
    if not isinstance(preprocess, Preprocess):
        return Preprocess(checkpoint.image_spec, preprocess, pixels=pixels or "exact")
    if pixels not in (None, preprocess.pixels):
        raise ConfigError(
            f"pixels={pixels!r}, but the given preprocess makes {preprocess.pixels!r} pixels; "
            f"leave pixels out, or make it with Preprocess(..., pixels={pixels!r})."
        )
    size = checkpoint.image_spec.size
    if preprocess.spec.size != size:
        raise ConfigError(
            f"preprocess makes {preprocess.spec.size} pixels, but {checkpoint.name} takes {size}; "
            f"make it with ImageSpec(size={size}), or pass image_size={preprocess.spec.size}."
        )
    if preprocess.spec != checkpoint.image_spec:
        warn(
            f"preprocess was made for {preprocess.spec}, but {checkpoint.name} was trained with "
            f"{checkpoint.image_spec}; the vectors will differ from the released ones.",
            stacklevel=4,
        )
    return preprocess
