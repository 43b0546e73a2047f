"""open_clip's factory.py and pretrained.py: models, tokenizers and their names."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

from ecliptic.checkpoints import catalog, open_clip_config
from ecliptic.compat.architectures import check_sizes, implied_settings, random_towers
from ecliptic.compat.keywords import CREATE, FROM_PRETRAINED, Keywords, read_options
from ecliptic.compat.loading import Placement, load_as_named, warn_of_folder
from ecliptic.compat.open_clip.model import CLIP
from ecliptic.compat.open_clip.tokenizer import SimpleTokenizer
from ecliptic.compat.pixels import ToPixels, ToTrainingPixels
from ecliptic.engine import open_checkpoint
from ecliptic.errors import UnknownModelError
from ecliptic.inputs import ImageSpec, TokenizerSpec
from ecliptic.model import TwoTowers

_FOLDER, _HUB = "local-dir:", "hf-hub:"  # factory.py `parse_model_name`


def create_model_and_transforms(
    model_name: str, pretrained: str | None = None, *positional: Any, **options: Any
) -> tuple[CLIP, ToTrainingPixels, ToPixels]:
    """The model, and its preprocessing for training and for evaluation.

    Args:
        model_name: "ViT-B-32", "hf-hub:org/name" or "local-dir:folder".
        pretrained: a tag of `list_pretrained()`, a file, or None for random weights, which are
            seeded by `torch.manual_seed`. Ignored for the two prefixes, as in open_clip.
        positional: options in open_clip's order: load_weights, precision, device, ...
        options: fields of `Keywords`.

    Raises:
        ConfigError: an option that does not exist here.
        EclipticError: as `ecliptic.load`.
    """
    model, spec = _create(model_name, pretrained, read_options(options, positional, CREATE))
    return model, ToTrainingPixels(spec), ToPixels(spec)


def create_model(
    model_name: str, pretrained: str | None = None, *positional: Any, **options: Any
) -> CLIP:
    """The model alone; arguments as for `create_model_and_transforms`."""
    return _create(model_name, pretrained, read_options(options, positional, CREATE))[0]


@overload
def create_model_from_pretrained(
    model_name: str,
    pretrained: str | None = None,
    *positional: Any,
    return_transform: Literal[False],
    **options: Any,
) -> CLIP: ...
@overload
def create_model_from_pretrained(
    model_name: str,
    pretrained: str | None = None,
    *positional: Any,
    return_transform: bool = True,
    **options: Any,
) -> tuple[CLIP, ToPixels]: ...
def create_model_from_pretrained(
    model_name: str,
    pretrained: str | None = None,
    *positional: Any,
    return_transform: bool = True,
    **options: Any,
) -> CLIP | tuple[CLIP, ToPixels]:
    """The model and its preprocessing; arguments as for `create_model_and_transforms`.

    Raises:
        UnknownModelError: `pretrained` is missing, so the weights are unknown.
    """
    if not pretrained and not model_name.startswith((_FOLDER, _HUB)):
        known = ", ".join(list_pretrained_tags_by_model(model_name))
        raise UnknownModelError(f"{model_name}/", fix=f"pass pretrained= one of: {known}.")
    found = read_options(options, positional, FROM_PRETRAINED)
    model, spec = _create(model_name, pretrained, found)
    return (model, ToPixels(spec)) if return_transform else model


def get_tokenizer(model_name: str = "", context_length: int | None = None) -> SimpleTokenizer:
    """The tokenizer of a model; call it with texts.

    Raises:
        UnknownModelError: no model is called `model_name`.
    """
    if model_name.startswith((_FOLDER, _HUB)):
        loaded = load_as_named(_translate(model_name), Placement("cpu"))
        spec = loaded.tokenizer.spec
    else:
        text = catalog.architecture(model_name).text if model_name else None
        spec = TokenizerSpec(context=text.context) if text else TokenizerSpec()
    return SimpleTokenizer(replace(spec, context=context_length or spec.context))


def get_model_config(model_name: str) -> dict[str, Any] | None:
    """The sizes of an architecture as in open_clip's model_configs; None if it is unknown.

    Raises:
        UnsupportedLayoutError: a ResNet with basic blocks, which no such config can describe.
    """
    if model_name.startswith((_FOLDER, _HUB)):
        config = open_checkpoint(_translate(model_name)).config
    else:
        try:
            config = catalog.architecture(model_name)
        except UnknownModelError:
            return None
    return open_clip_config(config)


def list_models() -> list[str]:
    """Names of all architectures."""
    return list(catalog.architectures())


@overload
def list_pretrained(as_str: Literal[True]) -> list[str]: ...
@overload
def list_pretrained(as_str: Literal[False] = False) -> list[tuple[str, str]]: ...
def list_pretrained(as_str: bool = False) -> list[str] | list[tuple[str, str]]:
    """(architecture, tag) of all released weights, or "architecture:tag"."""
    rows = [catalog.find(name) for name in catalog.names()]
    pairs = [(row.architecture, row.tag) for row in rows]
    return [f"{sizes}:{tag}" for sizes, tag in pairs] if as_str else pairs


def list_pretrained_tags_by_model(model: str) -> list[str]:
    """Tags of the weights released for an architecture."""
    return [tag for sizes, tag in list_pretrained() if sizes == model]


def list_pretrained_models_by_tag(tag: str) -> list[str]:
    """Architectures that have weights of a tag."""
    plain = tag.lower().replace("-", "_")
    return [sizes for sizes, known in list_pretrained() if known == plain]


def list_openai_models() -> list[str]:
    """Architectures of OpenAI's own weights."""
    return list_pretrained_models_by_tag("openai")


def _create(name: str, pretrained: str | None, options: Keywords) -> tuple[CLIP, ImageSpec]:
    """The facade in eval mode, and its image preprocessing."""
    warn_of_folder("cache_dir", options.cache_dir)
    if name.startswith((_FOLDER, _HUB)):
        loaded = load_as_named(_translate(name), options.placement)
        towers, spec = loaded.model, loaded.card.image_spec
    elif pretrained and options.load_weights:
        towers, spec = _load_weights(name, pretrained, options)
    else:
        towers, spec = random_towers(name, options.placement)
    model = CLIP(towers, output_dict=bool(options.output_dict))
    assert spec  # a facade needs both towers
    spec = options.change(spec)
    _describe(model.visual, spec)
    return model.eval(), spec


def _describe(visual: Any, spec: ImageSpec) -> None:
    """Set what open_clip's `set_model_preprocess_cfg` sets."""
    visual.image_mean, visual.image_std = spec.mean, spec.std
    visual.preprocess_cfg = {
        "size": visual.image_size,
        "mode": "RGB",
        "mean": spec.mean,
        "std": spec.std,
        "interpolation": spec.interpolation,
        "resize_mode": spec.resize,
        "fill_color": 0,
    }


def _translate(name: str) -> str:
    """Translate a name with one of open_clip's prefixes into a name of ecliptic."""
    return name.removeprefix(_FOLDER) if name.startswith(_FOLDER) else f"hf:{name[len(_HUB) :]}"


def _load_weights(
    name: str, pretrained: str, options: Keywords
) -> tuple[TwoTowers, ImageSpec | None]:
    if not Path(pretrained).exists():
        loaded = load_as_named(f"{name}/{pretrained}", options.placement)
        return loaded.model, loaded.card.image_spec
    sizes = catalog.architecture(name)
    loaded = load_as_named(pretrained, options.placement, implied_settings(name, sizes))
    check_sizes(name, sizes, pretrained, loaded.card.config)
    return loaded.model, loaded.card.image_spec
