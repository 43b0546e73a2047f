"""One interface to the models that the doctor compares: ecliptic, open_clip, transformers.

Each gives the same named stages of the same forward pass; other libraries are imported when used.
B batch, T tokens, D width, E vector size.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecliptic.checkpoints import WEIGHT_SUFFIXES
from ecliptic.engine.clip import Clip
from ecliptic.errors import MissingExtraError
from ecliptic.inputs import open_image
from ecliptic.model import TowerStates, end_positions
from ecliptic.settings import to_dict
from ecliptic.storage import hash_file

StageOutputs = dict[str, Tensor]  # "layer 0" ... "layer N", "pooled", "vectors", in order


@dataclass(frozen=True)
class Tower:
    """One side of a model, as three functions."""

    inputs: Callable[[Sequence[Any]], Tensor]  # texts -> (B, T) ids, images -> (B, 3, S, S)
    stages: Callable[[Tensor], StageOutputs]  # of one forward pass over such inputs
    vectors: Callable[[Sequence[Any]], Tensor]  # texts or images -> (B, E), end to end
    end_of_text: int | None = None  # id that ends each row of `inputs`, of a text tower


@dataclass(frozen=True)
class Stored:
    """The weights files on disk."""

    digests: tuple[str, ...]  # SHA-256 of each file, in the order of their names
    dtypes: tuple[str, ...] = ()  # of the tensors, each once; empty if not known


def digest_files(path: Path, weights: Mapping[str, Tensor] | None = None) -> Stored | None:
    """Digests of the weights at `path`, a file or a folder; None if there are none."""
    inside = sorted(path.rglob("*")) if path.is_dir() else []
    files = [file for file in inside if file.is_file() and file.name.endswith(WEIGHT_SUFFIXES)]
    files = [path] if path.is_file() else files
    if not files:
        return None
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in (weights or {}).values()}
    return Stored(tuple(hash_file(file).hexdigest() for file in files), tuple(sorted(dtypes)))


@dataclass(frozen=True)
class Implementation:
    """One side of a comparison; None for a part that it lacks or cannot show."""

    name: str
    text: Tower | None
    image: Tower | None
    identity: Mapping[str, Any] | None = None  # sizes, activation, specs, as plain data
    weights: Mapping[str, Tensor] | None = None  # under our names
    stored: Stored | None = None


def ours(clip: Clip, name: str, path: Path | None = None) -> Implementation:
    """A loaded `Clip`; stages come from the plain towers, vectors from the fast path.

    `path` is the file or folder that it was read from.
    """
    card, model = clip.card, clip.model

    def text_stages(tokens: Tensor) -> StageOutputs:
        return _name_layers(model.text_tower.states(tokens.to(clip.device)))

    def image_stages(pixels: Tensor) -> StageOutputs:
        return _name_layers(model.image_tower.states(pixels.to(clip.device)))

    def pixels(images: Sequence[Any]) -> Tensor:
        return torch.stack([clip.preprocess(image) for image in images])

    cut = partial(clip.tokenize, overflow="truncate")
    encode = partial(clip.encode_text, overflow="truncate")
    specs = {"image_spec": to_dict(card.image_spec), "tokenizer_spec": to_dict(card.tokenizer_spec)}
    ends = card.tokenizer_spec.end_of_text if card.tokenizer_spec else None
    return Implementation(
        name,
        Tower(cut, text_stages, encode, ends) if model.text else None,
        Tower(pixels, image_stages, clip.encode_image) if model.image else None,
        {"config": to_dict(card.config), **specs, "preprocess": card.preprocess},
        model.state_dict(),
        digest_files(path, card.weights) if path else None,
    )


def _name_layers(states: TowerStates) -> StageOutputs:
    layers = {f"layer {i}": hidden for i, hidden in enumerate(states.hidden)}
    return layers | {"pooled": states.pooled, "vectors": states.vectors}


def open_clip(source: str) -> Implementation:
    """A model of the open_clip package; `source` is "ARCH/TAG" or "ARCH/FILE".

    Raises:
        MissingExtraError: open_clip is not installed, or does not import here.
    """
    library = _import_library("open_clip", "open_clip_torch")
    architecture, _, pretrained = source.partition("/")
    model, _, prepare = library.create_model_and_transforms(
        architecture, pretrained=pretrained or None
    )
    model.eval()
    tokenizer = library.get_tokenizer(architecture)

    def tokens(texts: Sequence[Any]) -> Tensor:
        return tokenizer(list(texts)).long()  # type: ignore[no-any-return]

    def pixels(images: Sequence[Any]) -> Tensor:
        return torch.stack([prepare(open_image(image)) for image in images])

    return Implementation(
        f"open_clip:{source}",
        Tower(
            tokens,
            partial(_run_text, model),
            lambda t: model.encode_text(tokens(t)),
            getattr(tokenizer, "eot_token_id", None),
        ),
        Tower(pixels, partial(_run_image, model), lambda i: model.encode_image(pixels(i))),
        stored=digest_files(Path(pretrained)) if pretrained else None,
    )


def _run_text(model: Any, tokens: Tensor) -> StageOutputs:
    tower = getattr(model, "text", model)
    with record_layers(tower.transformer.resblocks, len(tokens), last=tower.ln_final) as stages:
        vectors = model.encode_text(tokens)
    stages["pooled"] = stages["pooled"][torch.arange(len(tokens)), _find_ends(model, tokens)]
    return stages | {"vectors": vectors}


def _find_ends(model: Any, tokens: Tensor) -> Tensor:
    """(B,) places that it pools, as in open_clip/transformer.py `text_global_pool`."""
    if getattr(model, "text_pool_type", "argmax") == "eos":
        return end_positions(tokens, int(model.text_eos_id))
    return tokens.argmax(dim=-1)


def _run_image(model: Any, pixels: Tensor) -> StageOutputs:
    tower = model.visual
    if hasattr(tower, "attnpool"):
        blocks, last = [tower.layer1, tower.layer2, tower.layer3, tower.layer4], tower.attnpool
    else:
        blocks, last = tower.transformer.resblocks, tower.ln_post
    with record_layers(blocks, len(pixels), last=last) as stages:
        vectors = model.encode_image(pixels)
    if stages["pooled"].ndim == 3:
        stages["pooled"] = stages["pooled"][:, 0]  # the class token
    return stages | {"vectors": vectors}


def transformers(source: str) -> Implementation:
    """A `CLIPModel` folder, or hub name, read by the transformers package.

    Raises:
        MissingExtraError: transformers is not installed, or does not import here.
    """
    library = _import_library("transformers", "transformers")
    model = library.CLIPModel.from_pretrained(source, dtype=torch.float32).eval()
    tokenizer = library.AutoTokenizer.from_pretrained(source)
    # newer releases have a separate class for the processor of Pillow images
    pillow = getattr(library, "CLIPImageProcessorPil", None) or library.CLIPImageProcessor
    processor = pillow.from_pretrained(source)
    context = model.config.text_config.max_position_embeddings

    def tokens(texts: Sequence[Any]) -> Tensor:
        options = {"padding": "max_length", "truncation": True, "max_length": context}
        return tokenizer(list(texts), return_tensors="pt", **options).input_ids  # type: ignore[no-any-return]

    def pixels(images: Sequence[Any]) -> Tensor:
        opened = [open_image(image) for image in images]
        return processor(opened, return_tensors="pt").pixel_values  # type: ignore[no-any-return]

    text = partial(_run_transformers, model.text_model, model.text_projection)
    image = partial(_run_transformers, model.vision_model, model.visual_projection)
    return Implementation(
        f"transformers:{source}",
        Tower(tokens, text, lambda texts: text(tokens(texts))["vectors"], tokenizer.eos_token_id),
        Tower(pixels, image, lambda images: image(pixels(images))["vectors"]),
        stored=digest_files(Path(source)),
    )


def _run_transformers(tower: Any, projection: Any, inputs: Tensor) -> StageOutputs:
    with record_layers(tower.encoder.layers, len(inputs)) as stages:
        pooled = tower(inputs).pooler_output
    return stages | {"pooled": pooled, "vectors": projection(pooled)}


OTHERS: dict[str, Callable[[str], Implementation]] = {
    "open_clip": open_clip,
    "transformers": transformers,
}


@contextmanager
def record_layers(blocks: Any, batch: int, last: nn.Module | None = None) -> Iterator[StageOutputs]:
    """Record the first block's input and each block's output as "layer i", `last`'s as "pooled".

    Tensors whose first axis is not the batch are (T, B, D), and are transposed.
    """
    stages: StageOutputs = {}

    def keep(name: str, value: Any) -> None:
        tensor = value[0] if isinstance(value, tuple) else value
        stages[name] = tensor if len(tensor) == batch else tensor.transpose(0, 1)

    def before(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        keep("layer 0", given[0] if given else named["hidden_states"])

    def after(name: str) -> Callable[..., None]:
        return lambda _module, _given, result: keep(name, result)

    hooks = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    for place, block in enumerate(blocks, start=1):
        hooks.append(block.register_forward_hook(after(f"layer {place}")))
    if last is not None:
        hooks.append(last.register_forward_hook(after("pooled")))
    try:
        yield stages
    finally:
        for hook in hooks:
            hook.remove()


def _import_library(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except Exception as reason:  # a torchvision that does not fit torch fails with RuntimeError
        raise MissingExtraError(
            f"{module} cannot be imported ({reason}); `pip install {package}` to compare with it."
        ) from reason
