"""Loading in four steps: locate, read, build, place."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ecliptic.checkpoints import Checkpoint, Hints, locate, read
from ecliptic.engine.cache import EmbeddingCache
from ecliptic.engine.card import Card
from ecliptic.engine.clip import Clip
from ecliptic.errors import ConfigError
from ecliptic.inputs import ImageSpec, Preprocess, PreprocessMode, TokenizerSpec
from ecliptic.model import Activation, TwoTowers, build, resize_positions
from ecliptic.runtime import PrecisionName, Runtime, numerics_named

Precision = PrecisionName
MINI = Path(__file__).with_name("mini")  # the embedded default


def load(
    source: str | Path = "mini",
    *,
    device: str = "auto",
    precision: Precision = "auto",
    preprocess: PreprocessMode | Preprocess = "reference",
    image_size: int | None = None,
    part: str | None = None,
    activation: Activation | None = None,
    heads: int | tuple[int, int] | None = None,
    image_spec: ImageSpec | None = None,
    tokenizer_spec: TokenizerSpec | None = None,
    cache: Path | str | EmbeddingCache | None = None,
    offline: bool | None = None,
    revision: str | None = None,
) -> Clip:
    """Load a CLIP, ready to encode.

    Args:
        source: "mini" (embedded, no download; a folder of that name is "./mini"), a catalog name
            "ARCH/TAG", a file or folder of any layout, or "hf:org/name". Files and folders never
            touch the network.
        device: "cpu", "cuda", "mps", ...; "auto" is CUDA if there is one, else CPU.
        precision: of the weights: "fp32", "bf16" or "fp16"; "auto" is fp32, which has parity.
        preprocess: "reference" reproduces the released numbers bit for bit; "robust" first turns
            images upright, removes alpha and scales 16 bit. Or a `Preprocess` of your own.
        image_size: another size than the trained one; position embeddings are interpolated.
        part: which encoder of a diffusion pipeline ("text_encoder", "clip_g", ...).
        activation: "gelu" or "quick_gelu", for files that do not tell.
        heads: attention heads of both towers, or (image, text), for files that do not tell.
        image_spec: size, mean, std and resize, for files that do not tell.
        tokenizer_spec: merges, context and padding, for files that do not tell.
        cache: folder in which vectors are kept, so that no item is encoded twice.
        offline: True never touches the network; None follows the hub's own settings.
        revision: branch, tag or commit of a hub repository.

    Raises:
        UnknownModelError: nothing is called `source`.
        AmbiguousCheckpointError: the file does not tell; the message names the argument.
        CheckpointError: its other subclasses say what is wrong with the file or download.
        ConfigError: a device, precision, preprocessing or size that cannot be.
    """
    target = resolve_device(device)  # first what needs no file, nor a download
    numerics_named(precision)
    hints = Hints(part, activation, heads, image_spec, tokenizer_spec)
    checkpoint = open_checkpoint(source, hints, offline=offline, revision=revision)
    if image_size is not None:
        checkpoint = at_size(checkpoint, image_size)
    pixels = preprocess_of(checkpoint, preprocess)
    runtime = Runtime(build_model(checkpoint), precision, target)
    card = card_of(checkpoint, pixels, runtime)
    kept = EmbeddingCache(cache) if isinstance(cache, str | Path) else cache
    return Clip(runtime, card, checkpoint, pixels, kept)


def card_of(checkpoint: Checkpoint, pixels: Preprocess | None, runtime: Runtime) -> Card:
    """What the checkpoint is once it is placed, with the preprocessing in use."""
    return Card(
        name=checkpoint.name,
        layout=checkpoint.layout,
        config=checkpoint.config,
        image_spec=pixels.spec if pixels else None,
        tokenizer_spec=checkpoint.tokenizer_spec,
        preprocess=pixels.fingerprint_fields() if pixels else {},
        precision=runtime.precision,
        device=str(runtime.model.logit_scale.device),
        notes=checkpoint.notes,
        weights=checkpoint.weights,
    )


def open_checkpoint(
    source: str | Path,
    hints: Hints | None = None,
    *,
    offline: bool | None = None,
    revision: str | None = None,
) -> Checkpoint:
    """The checkpoint called `source`, located and read; nothing is built."""
    hints = hints or Hints()
    if source == "mini":  # also beside a folder of that name, which is "./mini"
        return _with_idle(read(MINI, hints), hints.part, revision)
    found = locate(source, offline=offline, revision=revision)
    if found.path != Path(source).expanduser():  # it lies in the hub's cache
        revision = None
    return _with_idle(read(found.path, hints, found.row), hints.part, revision)


def _with_idle(checkpoint: Checkpoint, part: str | None, revision: str | None) -> Checkpoint:
    """Note a `part`, or the `revision` of what is no hub repository, that chose nothing."""
    notes = []
    if part is not None and checkpoint.layout != "diffusers":
        notes.append(f"part={part!r} was not used: this is no diffusion checkpoint")
    if revision is not None:
        notes.append(f"revision={revision!r} was not used: this is no repository of the hub")
    return replace(checkpoint, notes=(*checkpoint.notes, *notes))


def build_model(checkpoint: Checkpoint) -> TwoTowers:
    """A model in eval mode that uses the checkpoint's own tensors, without copies."""
    model = build(checkpoint.config)
    weights = dict(checkpoint.weights)
    if model.image is None or model.text is None:
        weights.setdefault("logit_scale", torch.tensor(0.0))  # one tower alone stores none
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


def resolve_device(device: str) -> torch.device:
    """The device called `device`; "auto" is CUDA if there is one, else CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {device!r} cannot be used: {reason}; try device='cpu'."
        ) from None
    return found


def at_size(checkpoint: Checkpoint, size: int) -> Checkpoint:
    """The checkpoint for another image size, its position embeddings interpolated.

    Raises:
        ConfigError: the size does not fit the patches, or there is no image tower.
    """
    image, spec = checkpoint.config.image, checkpoint.image_spec
    if image is None or spec is None:
        raise ConfigError(f"{checkpoint.name} has no image side, so image_size means nothing.")
    if image.image_size == size:
        return checkpoint
    if size < 1:
        raise ConfigError(f"image_size is in pixels and at least 1, got {size}.")
    resized = replace(image, image_size=size)
    name = "image.positions" if "image.positions" in checkpoint.weights else "image.pool.positions"
    weights: Mapping[str, Tensor] = {
        **checkpoint.weights,
        name: resize_positions(checkpoint.weights[name], resized.grid),
    }
    note = f"position embeddings interpolated from {image.image_size} to {size} pixels (bicubic)"
    return replace(
        checkpoint,
        config=replace(checkpoint.config, image=resized),
        weights=weights,
        image_spec=replace(spec, size=size),
        notes=(*checkpoint.notes, note),
    )


def preprocess_of(
    checkpoint: Checkpoint, preprocess: PreprocessMode | Preprocess
) -> Preprocess | None:
    """The checkpoint's preprocessing in the wanted mode; None without an image tower.

    Raises:
        ConfigError: an unknown mode, or pixels of a size that the image tower does not take.
    """
    if checkpoint.image_spec is None:
        return None
    if not isinstance(preprocess, Preprocess):
        return Preprocess(checkpoint.image_spec, preprocess)
    size = checkpoint.image_spec.size
    if preprocess.spec.size != size:
        raise ConfigError(
            f"preprocess makes {preprocess.spec.size} pixels, but {checkpoint.name} takes {size}; "
            f"make it with ImageSpec(size={size}), or pass image_size={preprocess.spec.size}."
        )
    if preprocess.spec != checkpoint.image_spec:
        warnings.warn(
            f"preprocess was made for {preprocess.spec}, but {checkpoint.name} was trained with "
            f"{checkpoint.image_spec}; the vectors will differ from the released ones.",
            stacklevel=3,
        )
    return preprocess
