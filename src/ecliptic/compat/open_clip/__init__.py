"""open_clip's package: `from ecliptic.compat import open_clip` replaces `import open_clip`."""

from typing import TYPE_CHECKING, Any

from ecliptic.compat.open_clip import (
    constants,
    factory,
    loss,
    model,
    tokenizer,
    transform,
    transformer,
    zero_shot_classifier,
    zero_shot_metadata,
)
from ecliptic.compat.open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from ecliptic.compat.open_clip.factory import (
    create_model,
    create_model_and_transforms,
    create_model_from_pretrained,
    get_model_config,
    get_tokenizer,
    list_models,
    list_openai_models,
    list_pretrained,
    list_pretrained_models_by_tag,
    list_pretrained_tags_by_model,
)
from ecliptic.compat.open_clip.loss import ClipLoss, create_loss
from ecliptic.compat.open_clip.model import CLIP, get_cast_dtype, get_input_dtype
from ecliptic.compat.open_clip.tokenizer import SimpleTokenizer, decode, tokenize
from ecliptic.compat.open_clip.transform import AugmentationCfg, image_transform
from ecliptic.compat.open_clip.zero_shot_classifier import build_zero_shot_classifier

if TYPE_CHECKING:
    from ecliptic.compat.open_clip.zero_shot_metadata import (
        IMAGENET_CLASSNAMES,
        OPENAI_IMAGENET_TEMPLATES,
        SIMPLE_IMAGENET_TEMPLATES,
    )

__all__ = [
    "CLIP",
    "IMAGENET_CLASSNAMES",
    "OPENAI_DATASET_MEAN",
    "OPENAI_DATASET_STD",
    "OPENAI_IMAGENET_TEMPLATES",
    "SIMPLE_IMAGENET_TEMPLATES",
    "AugmentationCfg",
    "ClipLoss",
    "SimpleTokenizer",
    "build_zero_shot_classifier",
    "constants",
    "create_loss",
    "create_model",
    "create_model_and_transforms",
    "create_model_from_pretrained",
    "decode",
    "factory",
    "get_cast_dtype",
    "get_input_dtype",
    "get_model_config",
    "get_tokenizer",
    "image_transform",
    "list_models",
    "list_openai_models",
    "list_pretrained",
    "list_pretrained_models_by_tag",
    "list_pretrained_tags_by_model",
    "loss",
    "model",
    "tokenize",
    "tokenizer",
    "transform",
    "transformer",
    "zero_shot_classifier",
    "zero_shot_metadata",
]


def __getattr__(name: str) -> Any:
    """Names of ImageNet, which are read when they are first used."""
    if name.isupper():
        return getattr(zero_shot_metadata, name)
    raise AttributeError(
        f"ecliptic.compat.open_clip has no {name!r}; docs/compat.md lists what it has."
    )
