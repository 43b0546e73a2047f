"""The safety checkers of Stable Diffusion and DeepFloyd IF: a CLIP image tower with heads on it.

`read` gives the tower as a checkpoint without text; `read_safety_heads` gives the other tensors.
The names have one or two levels of `vision_model.`, which depends on the version of transformers
that saved them. Read-only. Sources: diffusers pipelines/stable_diffusion/safety_checker.py and
pipelines/deepfloyd_if/safety_checker.py; the released CompVis/stable-diffusion-safety-checker.
"""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ecliptic.checkpoints.checkpoint import Checkpoint
from ecliptic.checkpoints.identity.assemble import assemble
from ecliptic.checkpoints.identity.fields import Fields
from ecliptic.checkpoints.identity.hints import Hints, Stated
from ecliptic.checkpoints.layouts import transformers, transformers_inputs as inputs
from ecliptic.checkpoints.source import Source
from ecliptic.errors import UnsupportedLayoutError, WeightsMismatchError
from ecliptic.inputs import ImageSpec
from ecliptic.model import ClipConfig

NAME = "safety_checker"
FOLDER = "safety_checker"  # of a pipeline
PROCESSOR = "feature_extractor"  # its image processor stands beside the checker's folder
STABLE_DIFFUSION = (
    "concept_embeds",
    "concept_embeds_weights",
    "special_care_embeds",
    "special_care_embeds_weights",
)
DEEPFLOYD = ("p_head.weight", "p_head.bias", "w_head.weight", "w_head.bias")
CLASSES = ("StableDiffusionSafetyChecker", "IFSafetyChecker")  # `architectures` of their configs
_TWICE = "vision_model."  # the level that newer versions leave out
_DEFAULT = "no image processor beside the checker; images are prepared as for OpenAI's CLIP"


def matches(source: Source) -> bool:
    """Whether this is the folder, or the weights file, of a safety checker."""
    if source.folder:
        named = source.json(transformers.CONFIG).get("architectures")
        return isinstance(named, list) and any(name in named for name in CLASSES)
    return any(name in source.open().tensors for name in (STABLE_DIFFUSION[0], DEEPFLOYD[0]))


def read(source: Source, hints: Hints) -> Checkpoint:
    """Read the image tower; the heads are left out.

    A file without its config is read as the released checkers are: QuickGELU, and the image
    preparation of OpenAI's CLIP.
    """
    tensors = _strip_level(_open(source))
    tower = {name: x for name, x in tensors.items() if name not in (*STABLE_DIFFUSION, *DEEPFLOYD)}
    if source.folder:
        stated = _read_config(source, tower)
    elif hints.image_spec:
        stated = Stated(activation="quick_gelu")
    else:
        stated = Stated(activation="quick_gelu", image_spec=ImageSpec(), notes=(_DEFAULT,))
    return assemble(tower, transformers.TABLE, stated, hints, layout=NAME, what=str(source.path))


def read_safety_heads(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a safety checker beside its image tower, under diffusers' names.

    Args:
        path: the checker's folder or weights file, or a pipeline's folder that has one.

    Raises:
        UnsupportedLayoutError: it is no safety checker.
        WeightsMismatchError: some of the tensors are missing.
    """
    source = Source(find_safety_checker(path))
    if not matches(source):
        raise UnsupportedLayoutError(
            f"{source.path} is no safety checker of Stable Diffusion or DeepFloyd IF; pass its "
            "folder with config.json and weights, the weights file, or a pipeline that has one."
        )
    tensors = _open(source)
    names = STABLE_DIFFUSION if STABLE_DIFFUSION[0] in tensors else DEEPFLOYD
    if missing := [name for name in names if name not in tensors]:
        raise WeightsMismatchError(
            f"{source.path} is a safety checker without {', '.join(missing)}; fetch it again."
        )
    return {name: tensors[name] for name in names}


def find_safety_checker(path: Path | str) -> Path:
    """The folder of the checker of a pipeline; any other path as it is."""
    path = Path(path)
    inner = path / FOLDER
    return inner if (path / "model_index.json").is_file() and inner.is_dir() else path


def _open(source: Source) -> Mapping[str, Tensor]:
    if not source.folder:
        return source.open().tensors
    weights = source.find_weights(transformers.CONFIG, transformers.ANY_WEIGHTS)
    return source.open(weights).tensors


def _strip_level(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names with one level of `vision_model.`, as CLIPVisionModelWithProjection has them."""
    doubled = (f"{_TWICE}vision_model.", f"{_TWICE}visual_projection.")
    return {
        name.removeprefix(_TWICE) if name.startswith(doubled) else name: tensor
        for name, tensor in tensors.items()
    }


def _read_config(source: Source, tower: Mapping[str, Tensor]) -> Stated:
    config = Fields(source.json(transformers.CONFIG), str(source.path / transformers.CONFIG))
    image = transformers.read_image_config(transformers.find_tower(config, "vision_config"))
    projection = tower.get("visual_projection.weight")
    if projection is None:
        raise WeightsMismatchError(
            f"{source.path} is a safety checker without visual_projection.weight, so it gives no "
            "vectors; fetch it again."
        )
    spec = inputs.read_image_spec(source, image.image_size)
    beside = source.path.parent / PROCESSOR
    if spec is None and beside.is_dir():
        spec = inputs.read_image_spec(Source(beside), image.image_size)
    return Stated(
        config=ClipConfig(embed=len(projection), image=image, text=None),
        image_spec=spec or ImageSpec(size=image.image_size),
        notes=() if spec else (_DEFAULT,),
    )
