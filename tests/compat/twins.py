"""open_clip's own model on the tensors of a tiny checkpoint, to compare facades with."""

from types import ModuleType
from typing import Any

from ecliptic.checkpoints import Checkpoint, openai_keys
from ecliptic.model import ResNetConfig
from tests import peers


def twin(checkpoint: Checkpoint) -> Any:
    """`open_clip.model.CLIP` in eval mode with the checkpoint's weights."""
    module: ModuleType = peers.open_clip()
    config = checkpoint.config
    image, text = config.image, config.text
    assert image
    assert text
    if isinstance(image, ResNetConfig):
        vision = {"layers": image.depths, "width": image.width}
        vision["head_width"] = image.features // image.heads
        vision["patch_size"] = None
    else:
        vision = {"layers": image.depth, "width": image.width, "patch_size": image.patch_size}
        vision["head_width"] = image.width // image.heads
    model = module.model.CLIP(
        config.embed,
        module.CLIPVisionCfg(image_size=image.image_size, **vision),
        module.CLIPTextCfg(
            context_length=text.context,
            vocab_size=text.vocabulary,
            width=text.width,
            heads=text.heads,
            layers=text.depth,
        ),
        quick_gelu=text.activation == "quick_gelu",
    )
    model.load_state_dict(openai_keys(config).from_native(checkpoint.weights))
    return model.eval()
